"""Checkpoints of other versions: settings that they do not name yet, and those that are not known any more."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny

from epalm.errors import ConfigError
from epalm.recipe import Recipe, build_recipe
from epalm.tasks.template import FORMER_TEXT
from epalm.training import run_recipe

WEIGHTS = "adapter_model.safetensors"
MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def recipe(place: Path, backbones: Path) -> MakeRecipe:
    """Runs on captions that hold a control token."""
    tiny.write_lines(place / "rows.jsonl", [row | {"captions": ["a </s> b", "c"]} for row in tiny.captions()])

    def make(output: str, text: dict[str, Any] | None = None, **changes: Any) -> Recipe:
        overrides = {key.replace("__", "."): value for key, value in changes.items()}
        values = tiny.recipe_values(backbones, steps=9, checkpoint_every=2) | {"text": text or {}}
        return build_recipe(values, {"data.train": place / "rows.jsonl", "output": place / output, **overrides})

    return make


class Killed(Exception):
    """Stands for the end of the process."""


def run_until(step: int, recipe: Recipe, *, resume: bool = False) -> None:
    def on_progress(what: str, done: int, total: int) -> None:
        if what.startswith("training") and done == step:
            raise Killed

    with pytest.raises(Killed):
        run_recipe(recipe, on_progress, resume=resume)


def change_identity(output: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Make the checkpoints of a run those of another version."""
    for folder in (output / "checkpoints").iterdir():
        state, checksums = (json.loads((folder / name).read_text()) for name in ("state.json", "checksums.json"))
        change(state["identity"])
        (folder / "state.json").write_text(json.dumps(state))
        checksums["state.json"] = hashlib.sha256((folder / "state.json").read_bytes()).hexdigest()
        (folder / "checksums.json").write_text(json.dumps(checksums))


def test_a_setting_that_is_not_named_counts_as_its_default(recipe: MakeRecipe, place: Path) -> None:
    whole = run_recipe(recipe("whole"))
    run_until(5, recipe("out"))
    names = (
        "training.decay_on",
        "training.label_smoothing",
        "adapter.mask",
        "model.statistics",
        "data.mask_sounds",
        "data.holdout",
    )
    change_identity(place / "out", lambda identity: [identity.pop(name) for name in names])
    with pytest.raises(ConfigError, match=r"was written with training\.decay_on weights, now it is all; resume with"):
        run_recipe(recipe("out", training__decay_on="all"), resume=True)
    assert run_recipe(recipe("out"), resume=True).log.losses == whole.log.losses
    assert (place / "out" / WEIGHTS).read_bytes() == (place / "whole" / WEIGHTS).read_bytes()


def test_a_run_goes_on_in_the_way_it_was_begun(recipe: MakeRecipe, place: Path) -> None:
    """Before there was a setting, or with a checkpoint in between that names it."""
    whole = run_recipe(recipe("whole", FORMER_TEXT))
    assert run_recipe(recipe("now")).log.losses != whole.log.losses
    run_until(3, recipe("out", FORMER_TEXT))
    change_identity(place / "out", lambda identity: [identity.pop(f"text.{name}") for name in FORMER_TEXT])
    with pytest.raises(ConfigError, match=r"was written with text\.split_special_tokens False, now it is True"):
        run_recipe(recipe("out", {"split_special_tokens": True}), resume=True)
    run_until(7, recipe("out"), resume=True)
    assert run_recipe(recipe("out"), resume=True).log.losses == whole.log.losses
    for name in (WEIGHTS, "adapter_config.json"):
        assert (place / "out" / name).read_bytes() == (place / "whole" / name).read_bytes()


def test_a_run_of_former_defaults_goes_on_with_them(recipe: MakeRecipe, place: Path) -> None:
    former = {
        "batch_size": 32, "connector_init_scale": 1.0, "feature_dropout": 0.0, "learning_rate": 1e-3, "min_epochs": 8.0,
        "min_steps": 1, "warmup": 0.05, "weight_decay": 0.02,
    }  # fmt: skip

    def of(output: str, training: dict[str, Any]) -> Recipe:
        values = recipe(output).model_dump(exclude={"training": True, "text": True}, exclude_unset=True)
        return build_recipe(values | {"training": {"checkpoint_every": 2} | training})

    whole = run_recipe(of("whole", former))
    assert len(whole.log.losses) == 8
    run_until(3, of("out", former))
    new = ("connector_init_scale", "feature_dropout", "min_epochs", "min_steps")
    change_identity(place / "out", lambda identity: [identity.pop(f"training.{name}") for name in new])
    with pytest.raises(ConfigError, match=r"was written with training\.feature_dropout 0\.0, now it is 0\.5"):
        run_recipe(of("out", {"feature_dropout": 0.5}), resume=True)
    assert run_recipe(of("out", {}), resume=True).log.losses == whole.log.losses
    assert len(run_recipe(of("now", {"min_steps": 5, "batch_size": 4})).log.losses) == 6


def test_a_setting_of_a_later_version_is_not_passed_over(recipe: MakeRecipe, place: Path) -> None:
    run_until(3, recipe("out"))
    change_identity(place / "out", lambda identity: identity.update({"training.ema": 0.999}))
    with pytest.raises(ConfigError, match=r"was written with training\.ema 0\.999, which this version .* not know"):
        run_recipe(recipe("out"), resume=True)
