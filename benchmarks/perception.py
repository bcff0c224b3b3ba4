"""What decoding costs beside perceiving: files to features, against the bare encoder on ready tensors.

    python benchmarks/perception.py

For each modality an encoder of the published shape (ViT-B/16, TimeSformer-base with 8 frames, AST-base), its weights
random, perceives files that are made here (photographs' size and format, ten-second films and recordings). Both rates
are measured in turns in one run, that of files by the package's own way, which decodes the next batch while it
perceives one. Encoders are on the GPU, where there is one, and the clock is read when it has done all it was given.
Then 1,000 files go through a small encoder, and the memory of the process is read along the way. Writes
benchmarks/results/perception.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
import torch
from machine import DEVICE, device_name, name_of, now
from PIL import Image
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTModel,
    TimesformerConfig,
    TimesformerModel,
    VideoMAEImageProcessorPil,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

from epalm.data.file_features import PerceivedFiles
from epalm.encoders import load_encoder
from epalm.media import load_media

SECONDS = 10
TURNS = 2


def write_picture(path: Path, noise: np.random.Generator) -> Path:
    path = path.with_suffix(".jpg")
    coarse = Image.fromarray(noise.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    coarse.resize((640, 480), Image.Resampling.BICUBIC).save(path, quality=90)
    return path


def write_film(path: Path, noise: np.random.Generator) -> Path:
    path = path.with_suffix(".mp4")
    coarse = Image.fromarray(noise.integers(0, 256, (15, 60, 3), dtype=np.uint8))
    wide = np.asarray(coarse.resize((960, 240), Image.Resampling.BICUBIC))
    with av.open(str(path), "w") as film:
        stream = film.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(25 * SECONDS):
            part = np.ascontiguousarray(wide[:, 2 * number : 2 * number + 320])
            film.mux(stream.encode(av.VideoFrame.from_ndarray(part, format="rgb24")))
        film.mux(stream.encode())
    return path


def write_sound(path: Path, noise: np.random.Generator) -> Path:
    path = path.with_suffix(".wav")
    soundfile.write(path, 0.1 * noise.standard_normal((44_100 * SECONDS, 2)), 44_100)
    return path


def encoders(small: bool) -> dict[str, Any]:
    """Encoders with random weights, of the published shapes or small ones, with their own processors."""
    torch.manual_seed(0)
    shape = (
        {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64} if small else {}
    )
    backbones: dict[str, tuple[Any, Any]] = {
        "image": (ViTModel(ViTConfig(**shape), add_pooling_layer=False), ViTImageProcessorPil()),
        "video": (TimesformerModel(TimesformerConfig(num_frames=8, **shape)), VideoMAEImageProcessorPil()),
        "audio": (ASTModel(ASTConfig(**shape)), ASTFeatureExtractor()),
    }
    return {
        modality: load_encoder(backbone.to(DEVICE), processor=processor)
        for modality, (backbone, processor) in backbones.items()
    }


WRITERS: dict[str, Callable[[Path, np.random.Generator], Path]] = {
    "image": write_picture, "video": write_film, "audio": write_sound,
}  # fmt: skip
BATCHES = {"image": 16, "video": 2, "audio": 4}


def rates(modality: str, encoder: Any, files: list[Path], batch: int) -> dict[str, float]:
    """Items a second: of the encoder on ready tensors, and from files; in turns."""
    levels = min(6, encoder.levels)
    batches = [
        encoder.preprocess([load_media(modality, path, **encoder.reading) for path in files[at : at + batch]])
        for at in range(0, len(files), batch)
    ]
    bare, whole = [], []
    encoder.features(batches[0], levels)
    for _ in range(TURNS):
        started = now()
        for inputs in batches:
            encoder.features(inputs, levels)
        bare.append(now() - started)
        perceived = PerceivedFiles({modality: encoder}, {modality: levels}, batch_size=batch)
        started = now()
        perceived.perceive([{modality: path} for path in files])
        whole.append(now() - started)
    return {
        "bare_per_second": TURNS * len(files) / sum(bare),
        "from_files_per_second": TURNS * len(files) / sum(whole),
        "share": sum(bare) / sum(whole),
    }


def resident() -> float:
    """Memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def memory(modality: str, encoder: Any, files: list[Path], visits: int) -> dict[str, float]:
    """Resident memory after a tenth of that many files, and after all."""
    perceived = PerceivedFiles({modality: encoder}, {modality: 1}, batch_size=8, keep=False)
    at = {}
    for visit in range(0, visits, 8):
        perceived.of([{modality: files[(visit + i) % len(files)]} for i in range(8)])
        if visit + 8 >= visits // 10 and "megabytes_after_a_tenth" not in at:
            at["megabytes_after_a_tenth"] = resident()
    return {**at, "megabytes_after_all": resident(), "files": visits}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=4, help="batches of each modality")
    parser.add_argument("--visits", type=int, default=1000, help="files of the reading of memory")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/perception.json"))
    options = parser.parse_args()
    results: dict[str, Any] = {
        "device": device_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "dtype": name_of(torch.float32),
    }
    with tempfile.TemporaryDirectory() as folder:
        noise = np.random.default_rng(0)
        large, small = encoders(small=False), encoders(small=True)
        for modality, write in WRITERS.items():
            batch = BATCHES[modality]
            files = [write(Path(folder) / f"{modality}{i}", noise) for i in range(options.batches * batch)]
            results[modality] = rates(modality, large[modality], files, batch)
            results[modality] |= memory(modality, small[modality], files, options.visits)
            print(modality, json.dumps(results[modality], indent=1))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
