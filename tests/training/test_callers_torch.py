"""A run comes to the same numbers whatever its caller has set for all of torch, or of accelerate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from epalm.evaluation import Answerer
from epalm.models import PerceptualLM
from epalm.recipe import build_recipe
from epalm.training import run_recipe
from epalm.training.feature_building import build_features

WEIGHTS = "adapter_model.safetensors"


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def other_precision() -> Iterator[None]:
    """Somebody has set accelerate up, as a notebook may."""
    AcceleratorState._reset_state(reset_partial_state=True)
    Accelerator(cpu=True, mixed_precision="bf16")
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


CALLERS: dict[str, Callable[[], Any]] = {
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "device": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "accelerator": other_precision,
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, backbones: Path) -> Path:
    """A run, and features that were built."""
    folder = tmp_path_factory.mktemp("undisturbed")
    tiny.save_pictures(folder / "pictures")
    tiny.write_lines(folder / "captions.jsonl", tiny.captions())
    values = tiny.recipe_values(backbones) | {"data": {"train": folder / "captions.jsonl"}}
    run_recipe(build_recipe(values, {"output": folder / "out", "data.store": folder / "store"}))
    return folder


@pytest.mark.parametrize("name", ["float64", "bfloat16", "autocast", "inference"])
def test_what_is_trained_begins_the_same(backbones: Path, name: str) -> None:
    started = {}
    for context in (nullcontext, CALLERS[name]):
        with context():
            torch.manual_seed(0)
            model = PerceptualLM.build(backbones / "opt", encoder_width=6, config="epalm_ada")
        started[context] = model.trained_state_dict()
    expected, found = started.values()
    for key, tensor in found.items():
        assert (tensor.dtype, tensor.is_inference()) == (torch.float32, False)
        assert torch.equal(tensor, expected[key])


@pytest.mark.parametrize("name", CALLERS)
def test_answers_are_the_same(undisturbed: Path, tmp_path: Path, name: str) -> None:
    files = [undisturbed / "pictures" / f"{colour}.png" for colour in tiny.COLOURS]
    answers = {}
    for context in (nullcontext, CALLERS[name]):
        answerer = Answerer.load(undisturbed / "out", {"data.store": str(tmp_path / context.__name__)})
        with context():
            answers[context] = answerer.caption(files)
    expected, found = answers.values()
    assert found == expected
    stored, disturbed = (path.read_bytes() for path in sorted(tmp_path.glob("*/*/*.safetensors")))
    assert stored == disturbed


@pytest.mark.parametrize("name", CALLERS)
def test_a_run_is_the_same(undisturbed: Path, backbones: Path, tmp_path: Path, name: str) -> None:
    values = tiny.recipe_values(backbones) | {"data": {"train": undisturbed / "captions.jsonl"}}
    recipe = build_recipe(values, {"output": tmp_path / "out", "data.store": tmp_path / "store"})
    with CALLERS[name]():
        dtype = torch.get_default_dtype()
        build_features(recipe)
        run_recipe(recipe)
        assert torch.get_default_dtype() == dtype
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (undisturbed / "out" / WEIGHTS).read_bytes()
    shard, expected = (next(folder.glob("store/*/*.safetensors")) for folder in (tmp_path, undisturbed))
    assert shard.read_bytes() == expected.read_bytes()
