"""What the benchmarks came to, in one file: benchmarks/results/summary.json, and a table.

python benchmarks/summary.py        (`make bench` runs the benchmarks first)

What is missing, or was measured on another device than the rest, is told in one line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from readme import fill

RESULTS = Path("benchmarks/results")
SMALL = {"lm": "opt-125m", "encoder": "vit-b"}
MEANINGS = {
    "train_speedup_b8": "training, OPT-125M and ViT-B/16, batch 8: times the original's loop",
    "train_speedup_b32": "the same, batch 32",
    "train_flop_ratio": "the most that is to be gained in one precision: what both multiply, the original's over ours",
    "peak_memory_ratio": "peak memory of that training, batch 8, over the original's loop's",
    "peak_memory_ratio_b32": "the same, batch 32",
    "lm_matmul_share_b32": "the step's share of the machine's large matrix product, batch 32",
    "generation_overhead": "what perception adds to the time of generating 64 tokens, batch 32",
    "generation_cache_speedup": "the same with the cache: times as fast as without",
    "feature_build_share": "building the feature store: share of the bare encoder's rate",
    "image_share": "pictures from files to features: share of the bare encoder's rate",
    "video_share": "films from files to features: share of the bare encoder's rate",
    "audio_share": "recordings from files to features: share of the bare encoder's rate",
}
FROM: dict[str, tuple[Any, ...]] = {
    "train_speedup_b8": ("training", "sizes", SMALL | {"batch": 8}, "speedup_lean"),
    "train_speedup_b32": ("training", "sizes", SMALL | {"batch": 32}, "speedup_lean"),
    "lm_matmul_share_b32": ("training", "sizes", SMALL | {"batch": 32}, "lm_matmul_share"),
    "generation_overhead": ("generation", "batches", {"batch": 32}, "generation_overhead"),
    "generation_cache_speedup": ("generation", "batches", {"batch": 32}, "generation_cache_speedup"),
    "feature_build_share": ("features", "build_share_of_bare_encoder"),
    "train_flop_ratio": ("training", "sizes", SMALL | {"batch": 8}, "flop_ratio"),
    "peak_memory_ratio": ("training", "sizes", SMALL | {"batch": 8}, "peak_memory_ratio"),
    "peak_memory_ratio_b32": ("training", "sizes", SMALL | {"batch": 32}, "peak_memory_ratio"),
    **{f"{name}_share": ("perception", name, "share") for name in ("image", "video", "audio")},
}
"""Benchmark, and where in its results the figure is."""


class MissingError(Exception):
    """There is no such result; the message says which."""


def find_result(benchmark: str, *places: Any) -> Any:
    """The value at these places of a benchmark's results: keys, and of a list the values its entry has."""
    path = RESULTS / f"{benchmark}.json"
    remedy = f"run python benchmarks/{benchmark}.py"
    if not path.is_file():
        raise MissingError(f"{path} is missing; {remedy}")
    value = json.loads(path.read_text(encoding="utf-8"))
    for place in places:
        if isinstance(place, dict):
            value = next((each for each in value if place.items() <= each.items()), None)
        else:
            value = value.get(place)
        if value is None:
            description = (
                place if isinstance(place, str) else ", ".join(f"{key} {value}" for key, value in place.items())
            )
            raise MissingError(f"{path} has no {description}; {remedy}")
    return value


def dtype_of(benchmark: str, *places: Any) -> str:
    """What a figure was measured in."""
    return str(
        find_result(benchmark, *places[:-1], "lean_dtype")
        if benchmark == "training"
        else find_result(benchmark, "dtype")
    )


def summarise() -> dict[str, Any]:
    """All that goes into summary.json."""
    device = find_result("training", "device")
    for benchmark in ("generation", "features", "perception"):
        other = find_result(benchmark, "device")
        if other != device:
            path = RESULTS / f"{benchmark}.json"
            raise MissingError(f"{path} is of {other}, training.json of {device}; run make bench on one of them")
    return {
        "device": device,
        "threads": find_result("training", "threads"),
        "dtype": dtype_of(*FROM["train_speedup_b8"]),
        **{name: find_result(*places) for name, places in FROM.items()},
    }


def rows(summary: dict[str, Any]) -> list[str]:
    """The table of the figures; each says what it was measured in, where that is not the same of all."""
    dtypes = {name: dtype_of(*FROM[name]) for name in MEANINGS}
    same = len(set(dtypes.values())) == 1
    place = f"{summary['device']}, {summary['threads']} threads" + (f", {summary['dtype']}" if same else "")
    lines = [f"| measured on: {place} | |", "|---|---|"]
    for name, meaning in MEANINGS.items():
        lines.append(f"| {'' if same else f'{dtypes[name]}: '}{meaning} | {summary[name]:.3g} |")
    return lines


def rows_by_size() -> list[str]:
    """The table of all sizes that were trained, where they were trained on a GPU."""
    lines = [
        "",
        "| trained | samples/s | times the original's loop | peak memory, MiB | share of the original's |",
        "|---|---|---|---|---|",
    ]
    for size in find_result("training", "sizes"):
        if "samples_per_second" not in size:
            return []
        lines.append(
            f"| {size['lm']}, {size['encoder']}, batch {size['batch']}, {size['lean_dtype']} "
            f"| {size['samples_per_second']['lean']:.0f} | {size['speedup_lean']:.2f} "
            f"| {size['peak_memory_mib']['lean']} | {size['peak_memory_ratio']:.2f} |"
        )
    return lines


def main() -> None:
    try:
        summary = summarise()
        table = "\n".join([*rows(summary), *rows_by_size()])
    except MissingError as error:
        print(f"summary: {error}", file=sys.stderr)
        sys.exit(2)
    (RESULTS / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    fill(Path("docs/training.md"), "bench", table)
    print(table)


if __name__ == "__main__":
    main()
