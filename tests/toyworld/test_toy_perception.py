"""What learned to see the toy world's pictures is told from what did not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from epalm.data.manifest import read_manifest, write_manifest
from epalm.evaluation import PerceptionGain
from epalm.recipe import read_recipe
from epalm.toyworld.dataset import write_dataset
from epalm.training import run_recipe

PICTURES, STEPS = 96, 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`learned.jsonl`, the same with another picture in every row, and others to score."""
    folder = tmp_path_factory.mktemp("toy")
    write_dataset(folder / "learned", PICTURES, seed=0, captions=2, questions=0)
    write_dataset(folder / "scored", 40, seed=1, captions=1, questions=0)
    rows = read_manifest(folder / "learned" / "all.jsonl")
    media = [row.media for row in rows]
    write_manifest(rows, folder / "right.jsonl")
    mixed = [*media[7:], *media[:7]]
    write_manifest(
        [dataclasses.replace(row, media=files) for row, files in zip(rows, mixed, strict=True)],
        folder / "shuffled.jsonl",
    )
    return folder


def gain(folder: Path, rows: str, preset: str = "epalm_pt", language_model: str = "toyworld/lm") -> PerceptionGain:
    settings = {
        "model.language_model": language_model,
        "data.train": folder / rows,
        "data.validation": folder / "scored" / "all.jsonl",
        "data.store": folder / "store",
        "training.epochs": None,
        "training.steps": STEPS,
        "adapter.preset": preset,
        "model.device": "cpu",
        "generation.max_new_tokens": 1,
        "output": folder / f"{language_model}-{rows}-{preset}",
    }
    evaluation = run_recipe(read_recipe("toy_image", settings), java=False).evaluation
    assert evaluation is not None
    assert evaluation.perception is not None
    return evaluation.perception


@pytest.mark.slow
def test_an_adapter_that_sees_passes_and_those_that_do_not_fail(folder: Path) -> None:
    assert gain(folder, "right.jsonl").perceives
    assert not gain(folder, "shuffled.jsonl").perceives
    assert gain(folder, "right.jsonl", "text_only").gain.value == 0


@pytest.mark.slow
def test_a_language_model_that_never_read_a_vector_learns_to_see(folder: Path) -> None:
    """It says the right caption more likely than what learned from other pictures, and than what sees nothing."""
    sees = gain(folder, "right.jsonl", language_model="toyworld/lm_text")
    mixed_up = gain(folder, "shuffled.jsonl", language_model="toyworld/lm_text")
    blind = gain(folder, "right.jsonl", "text_only", language_model="toyworld/lm_text")
    assert sees.perceives
    assert not mixed_up.perceives
    assert sees.right < min(mixed_up.right, blind.right)
