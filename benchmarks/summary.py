"""What the benchmarks came to, in one file: benchmarks/results/summary.json, and a table.

python benchmarks/summary.py        (`make bench` runs the benchmarks first)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path("benchmarks/results")
GOALS = {
    "train_speedup_b8": ">= 8",
    "train_speedup_b32": "",
    "lm_matmul_share_b32": ">= 0.6",
    "generation_overhead": "<= 0.03",
    "generation_cache_speedup": ">= 5",
    "feature_build_share": ">= 0.9",
    "peak_memory_ratio": "<= 0.6",
}


def read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def main() -> None:
    training, generation = read("training"), read("generation")
    by_batch = {size["batch"]: size for size in training["sizes"] if size["lm"] == "opt-125m"}
    summary = {
        "device": training["device"],
        "train_speedup_b8": by_batch[8]["speedup_lean"],
        "train_speedup_b32": by_batch[32]["speedup_lean"],
        "lm_matmul_share_b32": by_batch[32]["lm_matmul_share"],
        "generation_overhead": generation["generation_overhead"],
        "generation_cache_speedup": generation["generation_cache_speedup"],
        "feature_build_share": read("features")["build_share_of_bare_encoder"],
        "peak_memory_ratio": by_batch[8]["peak_memory_ratio"],
    }
    (RESULTS / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    for name, goal in GOALS.items():
        print(f"{name:26} {summary[name]:8.3f}   {goal}")


if __name__ == "__main__":
    main()
