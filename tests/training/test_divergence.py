"""Runs that come to nothing: what is named where numbers are not finite, and what is said where none has changed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from safetensors.torch import load_file, save_file

from epalm.recipe import read_recipe
from epalm.training import run_recipe

TRAIN = ("train", "recipe.yaml", "--data.store", "false", "--output", "out", "--json", "run.json", "--data.train")
Command = Callable[..., Any]


def last_line(done: Any) -> str:
    assert done.code == 2
    assert not Path("out").exists()
    return str(done.err.splitlines()[-1])


def test_frozen_weights_that_are_not_finite(place: Path, epalm: Command) -> None:
    folder = tiny.save_language_model(place / "lm")
    weights = load_file(folder / "model.safetensors")
    weights["model.decoder.embed_tokens.weight"][tiny.byte_tokenizer()("z")["input_ids"]] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    tiny.write_lines(Path("z.jsonl"), [{"image": "pictures/red.png", "caption": "z"}])
    assert last_line(epalm(*TRAIN, "z.jsonl", "--model.language_model", "lm")) == (
        "epalm: training: the loss is nan at step 1: the language model holds values that are not finite in "
        "model.decoder.embed_tokens.weight; fetch or convert it anew"
    )


def test_a_rate_that_is_too_high(place: Path, epalm: Command) -> None:
    """With a decay of as much every step multiplies the weights by ten thousand."""
    rate = ("--training.learning_rate", 100, "--training.weight_decay", 100, "--training.steps", 20)
    line = last_line(epalm(*TRAIN, "captions.jsonl", *rate))
    assert re.fullmatch(r"epalm: training: the loss is nan at step \d+; lower training.learning_rate", line)


def test_a_gradient_that_is_not_finite_in_the_last_step(place: Path, epalm: Command) -> None:
    """Of it no loss tells any more."""
    tiny.save_steep_model(place / "lm", slope=5e36)
    line = last_line(epalm(*TRAIN, "captions.jsonl", "--model.language_model", "lm", "--training.steps", 1))
    assert line == (
        "epalm: training: after step 1 connector.image.0.weight holds values that are not finite; lower "
        "training.learning_rate"
    )


def test_a_run_that_changes_nothing_says_so(place: Path, epalm: Command) -> None:
    done = epalm(*TRAIN, "captions.jsonl", "--training.learning_rate", 1e-50)
    assert done.code == 0
    (line,) = (line for line in done.err.splitlines() if line.startswith("epalm: "))
    assert line.startswith("epalm: training: nothing was learned: in 4 steps no trained value has changed; ")
    assert json.loads(Path("run.json").read_text())["unchanged"] is True
    done = epalm(*TRAIN, "captions.jsonl")
    assert "epalm: " not in done.err
    assert "unchanged" not in json.loads(Path("run.json").read_text())


def test_python_is_told_by_its_own_warnings(place: Path) -> None:
    changes = {"data.train": "captions.jsonl", "output": "out", "training.learning_rate": 1e-50}
    with pytest.warns(UserWarning, match="nothing was learned: in 4 steps"):
        run_recipe(read_recipe("recipe.yaml", changes))
