"""What the feature store costs: building against the bare encoder, reading, and opening a store of a million items.

    python benchmarks/features.py
    python benchmarks/features.py --encoder facebook/dinov2-small --manifest photographs.jsonl
    python benchmarks/features.py --encoder openai/whisper-tiny.en --manifest recordings.jsonl --files 300

Building: photographs that are made here go through an encoder of ViT-B/16's shape, its weights random, into a store; or
with `--encoder` and `--manifest` the files that a manifest names through an encoder from a directory or the hub, and
nothing else is measured. The bare encoder is given tensors that are ready, in batches of the size that suits it best,
and what it gives is thrown away. Both are measured in turns, with the same threads. Reading and opening: a simulated
store of a million items, (6, 768) of float16, in files that take no room on the disk, as they hold nothing but zeros;
batches of 64 random items are read on one thread, and the memory of a fresh process is watched. Where nothing but the
CPU is at work, seconds are those of the process, which others on the machine cannot lengthen; the share by the clock is
told beside it, for a machine that has nothing else to do. Writes benchmarks/results/features.json; with `--encoder`
nothing but what `--output` names.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import DEVICE, device_name, name_of, settle
from PIL import Image
from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

from epalm.data.file_features import PerceivedFiles
from epalm.data.store import CachedFeatures, FeatureStore, StoreDescription, describe_encoder
from epalm.data.store.shards import DTYPES, ENDING
from epalm.data.views import Views
from epalm.encoders import PerceptualEncoder, load_encoder

LEVELS, WIDTH, PER_SHARD, BATCH = 6, 768, 2048, 64
SIZES = (1, 2, 4, 8, 16, 32)


def made_pictures(folder: Path, count: int) -> list[dict[str, Path]]:
    """Rows that name as many new photographs."""
    noise = np.random.default_rng(0)
    rows = []
    for number in range(count):
        coarse = Image.fromarray(noise.integers(0, 256, (30, 40, 3), dtype=np.uint8))
        path = folder / f"{number}.jpg"
        coarse.resize((640, 480), Image.Resampling.BICUBIC).save(path, quality=90)
        rows.append({"image": path})
    return rows


def named_files(manifest: Path, modality: str, count: int) -> list[dict[str, Path]]:
    """Rows that name the first distinct files of a manifest."""
    with manifest.open(encoding="utf-8") as lines:
        names = dict.fromkeys(json.loads(line)[modality] for line in lines)
    return [{modality: manifest.parent / name} for name in list(names)[:count]]


def build_share(
    folder: Path, encoder: PerceptualEncoder, rows: list[dict[str, Path]], batch: int, turns: int
) -> dict[str, float]:
    """Items a second of the bare encoder and of a build, and the build's share of it."""
    modality = encoder.modality
    levels = min(LEVELS, encoder.levels)
    views, description = Views(), describe_encoder(encoder, levels)
    one_by_one = [encoder.preprocess([views.decode(encoder, row[modality])]) for row in rows]
    name = encoder.input_names[0]
    values = [each[name][:, 0] if "lengths" in each else each[name] for each in one_by_one]  # (1, ...)
    alike = len({value.shape for value in values}) == 1

    @torch.no_grad()
    def bare(size: int, count: int) -> None:
        for first in range(0, count, size):
            encoder.backbone(**{name: torch.cat(values[first : first + size]).to(encoder.device)})
        settle()

    def build(place: str) -> None:
        cached = CachedFeatures(folder / place, description, views, batch)
        files = PerceivedFiles({modality: encoder}, {modality: levels}, batch_size=batch, kept={modality: cached})
        files.perceive(rows)

    bare(1, 1)
    some = min(len(rows), max(SIZES))
    best = min(
        (size for size in SIZES if alike and size <= some), key=lambda size: seconds(bare, size, some), default=1
    )
    measured = [(seconds(bare, best, len(rows)), seconds(build, f"store-{turn}")) for turn in range(turns)]
    own, clock = ([(turn[0][i], turn[1][i]) for turn in measured] for i in (0, 1))
    return {
        "files": len(rows),
        "bare_encoder_batch": best,
        "bare_encoder_items_per_s": round(len(rows) / statistics.median(bare for bare, _ in own), 2),
        "build_items_per_s": round(len(rows) / statistics.median(build for _, build in own), 2),
        "build_share_of_bare_encoder": round(statistics.median(bare / build for bare, build in own), 3),
        "build_share_by_the_clock": round(statistics.median(bare / build for bare, build in clock), 3),
    }


def seconds(act: Callable[..., None], *arguments: Any) -> tuple[float, float]:
    """What it takes: seconds of the process, or beside a GPU of the clock; and seconds of the clock."""
    started, own = time.perf_counter(), time.process_time()
    act(*arguments)
    own, passed = time.process_time() - own, time.perf_counter() - started
    return (own if DEVICE == "cpu" else passed), passed


def simulate(folder: Path, items: int) -> None:
    """A store of so many items whose features are holes in sparse files."""
    FeatureStore(folder, StoreDescription(identity="id", shape=(LEVELS, WIDTH), dtype="float16"))
    keys = np.random.default_rng(0).integers(0, 1 << 63, (items, 2), dtype=np.uint64)
    np.save(folder / "keys.npy", keys)
    size = LEVELS * WIDTH * DTYPES["float16"].itemsize
    for first in range(0, items, PER_SHARD):
        shard_keys = keys[first : first + PER_SHARD]
        end = len(shard_keys) * size
        header = {
            "__metadata__": {"checksum": "00000000"},
            "features": {"dtype": "F16", "shape": [len(shard_keys), LEVELS, WIDTH], "data_offsets": [0, end]},
            "keys": {"dtype": "U8", "shape": [len(shard_keys), 16], "data_offsets": [end, end + shard_keys.nbytes]},
        }
        encoded = json.dumps(header).encode()
        encoded += b" " * (-len(encoded) % 8)
        with (folder / f"{first:08}{ENDING}").open("wb") as file:
            file.write(len(encoded).to_bytes(8, "little") + encoded)
            file.seek(end, os.SEEK_CUR)
            file.write(shard_keys.tobytes())


def read(folder: Path, seconds: float) -> dict[str, float]:
    """In a process of its own: how long opening takes, how fast batches are read, and the memory it all takes."""
    torch.set_num_threads(1)
    keys = np.load(folder / "keys.npy", mmap_mode="r")
    before = memory()
    started = time.perf_counter()
    store = FeatureStore(folder)
    store.find(np.asarray(keys[:1]))
    opened = time.perf_counter() - started
    rng = np.random.default_rng(1)
    batches = [np.asarray(keys[np.sort(rng.integers(0, len(keys), BATCH))]) for _ in range(200)]
    most, done = memory(), 0
    started = time.process_time()
    while time.process_time() - started < seconds:
        for batch in batches:
            store.read(store.find(batch))
        done += BATCH * len(batches)
        most = max(most, memory())
    rate = done / (time.process_time() - started)
    return {
        "items": len(store),
        "open_s": round(opened, 3),
        "items_read_per_s": round(rate),
        "memory_mb_of_the_process": round(most / 1e6, 1),
        "memory_mb_of_the_store": round((most - before) / 1e6, 1),
    }


def memory() -> int:
    """Bytes of this process that are resident, mapped files among them."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--encoder", help="directory or hub id; with --manifest")
    parser.add_argument("--manifest", type=Path, help="JSON Lines that name files which the encoder perceives")
    parser.add_argument("--files", type=int, default=64, help="how many of them, at most")
    parser.add_argument("--batch", type=int, default=32, help="data.perception_batch of the build")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=5.0, help="of reading")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read is not None:
        print(json.dumps(read(options.read, options.seconds)))
        return
    if (options.encoder is None) != (options.manifest is None):
        parser.error("--encoder and --manifest belong together")
    if options.encoder is not None:
        encoder = load_encoder(options.encoder, device=DEVICE)
        rows = named_files(options.manifest, encoder.modality, options.files)
        with tempfile.TemporaryDirectory() as folder:
            result: dict[str, Any] = {"encoder": Path(options.encoder).name, "modality": encoder.modality}
            result |= build_share(Path(folder), encoder, rows, options.batch, options.turns)
        tell(result, options.output)
        return
    with tempfile.TemporaryDirectory() as folder:
        simulate(Path(folder), options.items)
        again = [sys.executable, __file__, "--read", folder, "--seconds", str(options.seconds)]
        result = json.loads(subprocess.run(again, check=True, capture_output=True, text=True).stdout)
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        backbone = ViTModel(ViTConfig(), add_pooling_layer=False)
        encoder = load_encoder(backbone.to(DEVICE), processor=ViTImageProcessorPil())
        rows = made_pictures(Path(folder), options.pictures)
        result |= build_share(Path(folder), encoder, rows, options.batch, options.turns)
    tell(result, options.output or Path(__file__).parent / "results" / "features.json")


def tell(result: dict[str, Any], output: Path | None) -> None:
    """Print what was measured and by what, and write it."""
    result |= {"device": device_name(), "threads": torch.get_num_threads(), "dtype": name_of(torch.float32)}
    print(json.dumps(result, indent=2))
    if output is not None:
        output.parent.mkdir(exist_ok=True)
        output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
