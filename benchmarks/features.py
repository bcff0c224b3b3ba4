"""What the feature store costs: building against the bare encoder, reading, and opening a store of a million items.

    python benchmarks/features.py

Building: photographs that are made here go through an encoder of ViT-B/16's shape, its weights random, into a store;
the bare encoder perceives tensors that are ready. Both are measured in turns, batch for batch the same. Reading and
opening: a simulated store of a million items, (6, 768) of float16, in files that take no room on the disk, as they hold
nothing but zeros; batches of 64 random items are read on one thread, and the memory of a fresh process is watched.
Where nothing but the CPU is at work, seconds are those of the process, which others on the machine cannot lengthen.
Writes benchmarks/results/features.json.
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
from pathlib import Path

import numpy as np
import torch
from machine import DEVICE, device_name, name_of
from PIL import Image
from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

from epalm.data.file_features import PerceivedFiles
from epalm.data.store import CachedFeatures, FeatureStore, StoreDescription, describe_encoder
from epalm.data.store.shards import DTYPES, ENDING
from epalm.data.views import Views
from epalm.encoders import load_encoder

LEVELS, WIDTH, PER_SHARD, BATCH = 6, 768, 2048, 64


def build_share(folder: Path, pictures: int, batch: int, turns: int) -> dict[str, float]:
    """Items a second of the bare encoder and of a build, and the build's share of it."""
    torch.manual_seed(0)
    backbone = ViTModel(ViTConfig(), add_pooling_layer=False)
    encoder = load_encoder(backbone.to(DEVICE), processor=ViTImageProcessorPil())
    noise = np.random.default_rng(0)
    rows = []
    for number in range(pictures):
        coarse = Image.fromarray(noise.integers(0, 256, (30, 40, 3), dtype=np.uint8))
        path = folder / f"{number}.jpg"
        coarse.resize((640, 480), Image.Resampling.BICUBIC).save(path, quality=90)
        rows.append({"image": path})
    inputs = encoder.preprocess([Image.open(rows[0]["image"]).convert("RGB")] * batch)
    description = describe_encoder(encoder, LEVELS)
    encoder.features(inputs, LEVELS)
    clock = time.process_time if DEVICE == "cpu" else time.perf_counter
    bare, built = [], []
    for turn in range(turns):
        started = clock()
        for _ in range(pictures // batch):
            encoder.features(inputs, LEVELS).cpu()
        bare.append(pictures / (clock() - started))
        cached = CachedFeatures(folder / f"store-{turn}", description, Views(), batch)
        files = PerceivedFiles({"image": encoder}, {"image": LEVELS}, batch_size=batch, kept={"image": cached})
        started = clock()
        files.perceive(rows)
        built.append(pictures / (clock() - started))
    shares = [build_rate / bare_rate for build_rate, bare_rate in zip(built, bare, strict=True)]
    return {
        "bare_encoder_items_per_s": round(statistics.median(bare), 2),
        "build_items_per_s": round(statistics.median(built), 2),
        "build_share_of_bare_encoder": round(statistics.median(shares), 3),
    }


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
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=5.0, help="of reading")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "features.json")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read is not None:
        print(json.dumps(read(options.read, options.seconds)))
        return
    with tempfile.TemporaryDirectory() as folder:
        simulate(Path(folder), options.items)
        again = [sys.executable, __file__, "--read", folder, "--seconds", str(options.seconds)]
        result = json.loads(subprocess.run(again, check=True, capture_output=True, text=True).stdout)
    with tempfile.TemporaryDirectory() as folder:
        result |= build_share(Path(folder), options.pictures, options.batch, options.turns)
    result |= {"device": device_name(), "threads": torch.get_num_threads(), "dtype": name_of(torch.float32)}
    print(json.dumps(result, indent=2))
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
