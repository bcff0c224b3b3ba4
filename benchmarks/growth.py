"""How a training step's cost grows: with the text's length, with the number of levels, and with the number of rows.

    python benchmarks/growth.py

A step of OPT-125M's shape (random weights, as precise as a recipe holds it by default) on ready features, batch 8. Each
size is measured in turns with the smallest; ratios of medians. Rows: drawing an epoch's batches, a row. Writes
benchmarks/results/growth.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from machine import device_name, name_of, now
from training import build

from epalm import PerceptualLM
from epalm.training.batches import Batches

BATCH = 8
LENGTHS = (16, 32, 64, 128, 256)
LEVELS = (1, 2, 3, 4)
ROWS = (1_000, 10_000, 100_000, 1_000_000)


def step(model: PerceptualLM, length: int) -> Callable[[], None]:
    """A forward and backward pass."""
    device = model.device
    ids = torch.randint(4, 50_000, (BATCH, length), device=device)
    labels = ids.clone()
    labels[:, : length // 2] = -100
    features = torch.randn(BATCH, model.levels["image"], 768, device=device)

    def run() -> None:
        model(ids, labels=labels, features=features, skip_logits=True).loss.backward()
        model.zero_grad(set_to_none=True)

    return run


def ratios(names: Sequence[int], works: Sequence[Callable[[], None]], repeats: int) -> dict[int, float]:
    """Medians over that of the first."""
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(repeats + 1):
        for times, work in zip(seconds, works, strict=True):
            started = now()
            work()
            times.append(now() - started)
    medians = [statistics.median(times[1:]) for times in seconds]  # the first warms up
    return {name: round(median / medians[0], 3) for name, median in zip(names, medians, strict=True)}


def drawing(rows: int) -> float:
    """Seconds a row of drawing an epoch's batches."""
    batches = Batches(["image"] * rows, BATCH, 0, [row % 40 for row in range(rows)])
    started = time.perf_counter()
    batches.epoch(0)
    return (time.perf_counter() - started) / rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/growth.json"))
    options = parser.parse_args()
    model = build("opt-125m", "vit-b", "lean")
    steps = [step(model, length) for length in LENGTHS]
    by_levels = [step(build("opt-125m", "vit-b", "lean", levels=levels), LENGTHS[0]) for levels in LEVELS]
    per_row = [drawing(rows) for rows in ROWS]
    result = {
        "device": device_name(),
        "dtype": name_of(next(model.language_model.parameters()).dtype),
        "by_length": ratios(LENGTHS, steps, options.repeats),
        "by_levels": ratios(LEVELS, by_levels, options.repeats),
        "drawing_a_row_by_rows": {rows: round(each / per_row[0], 3) for rows, each in zip(ROWS, per_row, strict=True)},
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
