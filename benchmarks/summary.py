"""What the benchmarks came to, in one file: benchmarks/results/summary.json, and a table.

python benchmarks/summary.py        (`make bench` runs the benchmarks first)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from readme import fill

RESULTS = Path("benchmarks/results")
MEANINGS = {
    "train_speedup_b8": "training, OPT-125M and ViT-B/16, batch 8: times the original's loop",
    "train_speedup_b32": "the same, batch 32",
    "peak_memory_ratio": "peak memory of that training, batch 8, over the original's loop's",
    "lm_matmul_share_b32": "the step's share of the machine's large matrix product, batch 32",
    "generation_overhead": "what perception adds to the time of generating 64 tokens, batch 32",
    "generation_cache_speedup": "the same with the cache: times as fast as without",
    "feature_build_share": "building the feature store: share of the bare encoder's rate",
    "image_share": "pictures from files to features: share of the bare encoder's rate",
    "video_share": "the same of films",
    "audio_share": "the same of recordings",
}


def read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def main() -> None:
    training, generation = read("training"), read("generation")["batches"][0]
    by_batch = {size["batch"]: size for size in training["sizes"] if size["lm"] == "opt-125m"}
    perception = read("perception")
    summary = {
        "device": training["device"],
        "threads": training["threads"],
        "dtype": by_batch[8]["lean_dtype"].removeprefix("torch."),
        "train_speedup_b8": by_batch[8]["speedup_lean"],
        "train_speedup_b32": by_batch[32]["speedup_lean"],
        "lm_matmul_share_b32": by_batch[32]["lm_matmul_share"],
        "generation_overhead": generation["generation_overhead"],
        "generation_cache_speedup": generation["generation_cache_speedup"],
        "feature_build_share": read("features")["build_share_of_bare_encoder"],
        "peak_memory_ratio": by_batch[8]["peak_memory_ratio"],
        **{f"{name}_share": perception[name]["share"] for name in ("image", "video", "audio")},
    }
    (RESULTS / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    lines = [f"| {meaning} | {summary[name]:.2f} |" for name, meaning in MEANINGS.items()]
    place = f"{summary['device']}, {summary['threads']} threads, language model in {summary['dtype']}"
    table = "\n".join([f"| measured on: {place} | |", "|---|---|", *lines])
    fill(Path("docs/training.md"), "bench", table)
    print(table)


if __name__ == "__main__":
    main()
