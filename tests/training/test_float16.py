"""A language model held in float16: what its range does to gradients and losses, and what a user is told of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from safetensors.torch import load_file, save_file

from epalm.errors import ConfigError
from epalm.recipe import Recipe, build_recipe
from epalm.training import run_recipe

WEIGHTS = "adapter_model.safetensors"
ROOT = str(Path(__file__).parents[2])
BEYOND = (
    "epalm: training: step 1 was tried 17 times, at loss scales down to 1, and its gradient is beyond the range of "
    "float16 each time; take model.torch_dtype bfloat16 or float32"
)
Command = Callable[..., Any]
Refused = Callable[..., str]


@pytest.fixture
def recipe(place: Path, backbones: Path) -> Callable[..., Recipe]:
    def make(output: str, slope: float, **changes: Any) -> Recipe:
        values = tiny.recipe_values(backbones, steps=6)
        values["model"]["language_model"] = str(tiny.save_steep_model(place / "lm", slope))
        overrides = {key.replace("__", "."): value for key, value in changes.items()}
        data = {"data.train": place / "captions.jsonl", "output": place / output}
        return build_recipe(values, data | overrides)

    return make


@pytest.mark.parametrize("changes", [{}, {"training__accumulation": 2}, {"training__clip": None}])
def test_a_step_that_overflows_is_tried_again_and_counts_once(
    recipe: Callable[..., Recipe], changes: dict[str, Any]
) -> None:
    """So the run is the one that float32 has, but for rounding."""
    steps: list[int] = []

    def on_progress(what: str, done: int, total: int) -> None:
        steps.extend([done] if what.startswith("training") else [])

    half = run_recipe(recipe("half", 100, model__torch_dtype="float16", **changes), on_progress)
    full = run_recipe(recipe("full", 100, **changes))
    assert steps == [1, 2, 3, 4, 5, 6]
    assert half.log.losses == pytest.approx(full.log.losses, rel=5e-3)


def test_neither_the_schedule_nor_a_checkpoint_counts_what_changed_nothing(
    recipe: Callable[..., Recipe], place: Path
) -> None:
    changes = {"model__torch_dtype": "float16", "training__checkpoint_every": 2}

    def on_progress(what: str, done: int, total: int) -> None:
        if what.startswith("training") and done == 3:
            raise KeyboardInterrupt

    whole = run_recipe(recipe("whole", 100, **changes))
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe("out", 100, **changes), on_progress)
    state = json.loads((place / "out" / "checkpoints" / "step-00000002" / "state.json").read_text())
    assert (state["learner"]["schedule"], len(state["losses"])) == (2, 2)
    assert state["learner"]["scaler"]["scale"] < 2**10
    assert run_recipe(recipe("out", 100, **changes), resume=True).log.losses == whole.log.losses
    assert (place / "out" / WEIGHTS).read_bytes() == (place / "whole" / WEIGHTS).read_bytes()


def test_gradients_beyond_its_range_end_the_run(recipe: Callable[..., Recipe], place: Path, refused: Refused) -> None:
    with pytest.raises(ConfigError, match=r"take model\.torch_dtype bfloat16 or float32$"):
        run_recipe(recipe("out", 10_000, model__torch_dtype="float16"))
    train = ("train", "recipe.yaml", "--data.train", "captions.jsonl", "--model.language_model", "lm", "--output")
    assert refused(*train, "out", "--model.torch_dtype", "float16", "--data.store", "false") == f"{BEYOND}\n"
    assert not Path("out").exists()
    run_recipe(recipe("out", 10_000, model__torch_dtype="bfloat16"))


_BOTH = """
import os, sys
from epalm.cli import run

codes = [run(["train", f"{name}.yaml", "--json", f"{name}.json"]) for name in ("fits", "beyond")]
sys.exit(0 if codes == [0, 2] else f"{codes}")
"""


@pytest.mark.slow
def test_processes_agree(recipe: Callable[..., Recipe], place: Path) -> None:
    for name, slope in (("fits", 100), ("beyond", 10_000)):
        values = recipe(name, slope, model__torch_dtype="float16").model_dump(mode="json")
        values["model"]["language_model"] = str((place / "lm").rename(place / f"lm-{name}"))
        (place / f"{name}.yaml").write_text(yaml.safe_dump(values))
    (place / "both.py").write_text(_BOTH)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "both.py"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": ROOT, "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.splitlines().count(BEYOND) == 2
    assert not (place / "beyond").exists()
    alone = run_recipe(recipe("alone", 100, model__torch_dtype="float16"))
    result = json.loads((place / "fits.json").read_text())
    assert result["steps"] == 6
    assert result["last_loss"] == pytest.approx(alone.log.smoothed()[-1], rel=5e-3)


def test_a_loss_beyond_its_range_has_another_dtype_for_a_remedy(place: Path, refused: Refused) -> None:
    folder = tiny.save_language_model(place / "lm")
    weights = load_file(folder / "model.safetensors")
    whole = {name: weight.clone() for name, weight in weights.items()}
    train = ("train", "recipe.yaml", "--data.train", "captions.jsonl", "--data.store", "false", "--output", "out")
    train += ("--model.language_model", "lm", "--model.torch_dtype", "float16")
    for name, factor, message in (
        ("model.decoder.layers.1.fc1.weight", 3e3, "float16 cannot hold what the language model computes"),
        ("model.decoder.layers.1.fc1.weight", 1e6, "the language model holds values that are not finite in"),
    ):
        weights[name] = whole[name] * factor
        weights["model.decoder.layers.1.fc2.weight"] = whole["model.decoder.layers.1.fc2.weight"] * 3e3
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        line = refused(*train)
        assert message in line
        assert line.startswith("epalm: training: the loss is nan at step 1: ")
        assert line.endswith("take model.torch_dtype bfloat16 or float32\n")
        assert not Path("out").exists()
