"""Decoder layers that run compiled: the same numbers, compiled once, and not a trace of it afterwards."""

from __future__ import annotations

import inspect
import os
import shutil
import sys
from typing import Any

import pytest
import torch
from families import FAMILIES, augmented, features, new_language_model, padded, text
from torch import Tensor
from torch._dynamo.utils import counters

from epalm.errors import ConfigError
from epalm.models import PerceptualLM
from epalm.models.anatomy import study
from epalm.models.layer_forwards import replaced
from epalm.models.quantised import to_int8

LENGTHS = ([9, 4, 6], [7, 7, 5], [8, 3, 2], [9, 9, 9])
NO_COMPILER = shutil.which(os.environ.get("CXX") or {"darwin": "clang++"}.get(sys.platform, "g++")) is None


@pytest.fixture(autouse=True)
def _compiled_by_this_test_alone() -> None:
    torch._dynamo.reset()
    counters.clear()


def step(model: PerceptualLM, lengths: list[int]) -> dict[str, Tensor]:
    """Loss, logits and the gradient of every trained tensor."""
    model.zero_grad()
    ids, mask = padded(text(), lengths, "left")
    output = model(ids, mask, labels=ids, features=features(3))
    output.loss.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    return {"loss": output.loss.detach(), "logits": output.logits.detach(), **found}  # type: ignore[dict-item]


def assert_alike(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        scale = float(tensor.abs().max())
        assert (other[name] - tensor).abs().max() <= tolerance * scale, name


@pytest.mark.parametrize(
    ("family", "prompt", "graphs", "backend"),
    [
        ("opt", "none", 2, "aot_eager"),
        *(
            pytest.param(family, "plain", 1, backend, marks=pytest.mark.slow)
            for family, backend in (("opt", "inductor"), ("gpt2", "aot_eager"), ("llama", "aot_eager"))
        ),
    ],
)
def test_compiled_layers_give_the_same_and_are_compiled_once(
    family: str, prompt: str, graphs: int, backend: str
) -> None:
    """Without a prompt there are two kinds of layers: those below perception need no way back."""
    if backend == "inductor" and NO_COMPILER:
        pytest.skip("there is no C++ compiler")
    model = augmented(new_language_model(FAMILIES[family](), "sdpa"), prompt=prompt).train()
    expected = [step(model, lengths) for lengths in LENGTHS]
    compiled_in: list[int] = []
    with model.compiled_layers(backend=backend):
        for lengths, wanted in zip(LENGTHS, expected, strict=True):
            assert_alike(wanted, step(model, lengths), 1e-5)
            compiled_in.append(counters["stats"]["unique_graphs"])
    assert compiled_in == [graphs] * len(LENGTHS)
    assert not counters["recompile_limit"]
    assert not counters["graph_break"]


@pytest.mark.slow
def test_a_quantised_language_model_is_compiled_as_well() -> None:
    lm = new_language_model(FAMILIES["llama"](), "sdpa")
    to_int8(study(lm).layers)
    model = augmented(lm).train()
    expected = [step(model, lengths) for lengths in LENGTHS]
    with model.compiled_layers(backend="aot_eager"):
        for lengths, wanted in zip(LENGTHS, expected, strict=True):
            assert_alike(wanted, step(model, lengths), 1e-5)
    assert counters["stats"]["unique_graphs"] == 1


def test_nothing_without_gradients_is_compiled() -> None:
    model = augmented(new_language_model(FAMILIES["opt"]()))
    expected = model.generate(text(), features=features(3), max_new_tokens=5, num_beams=2)
    with model.compiled_layers(backend="aot_eager"):
        assert torch.equal(model.generate(text(), features=features(3), max_new_tokens=5, num_beams=2), expected)
        assert study(model.language_model).mask_index == model.anatomy.mask_index
    assert not counters["stats"]


def test_layers_are_themselves_again_afterwards() -> None:
    model = augmented(new_language_model(FAMILIES["opt"]()))
    layers = model.anatomy.layers
    layers[1].forward = given = lambda *args, **kwargs: type(layers[1]).forward(layers[1], *args, **kwargs)
    with pytest.raises(KeyError), model.compiled_layers(backend="aot_eager"):
        raise KeyError
    assert "forward" not in vars(layers[0])
    assert layers[1].forward is given


def test_replacing_twice_is_undone_in_turn() -> None:
    lm = new_language_model(FAMILIES["opt"]())
    layers = study(lm).layers
    before = lm(text()).logits

    def doubled(forward: Any) -> Any:
        return lambda *args, **kwargs: 2 * forward(*args, **kwargs)

    with replaced(layers, doubled):
        once = lm(text()).logits
        signature = inspect.signature(layers[0].forward)
        with replaced(layers[:1], doubled):
            assert not torch.equal(lm(text()).logits, once)
        assert torch.equal(lm(text()).logits, once)
    assert signature == inspect.signature(layers[0].forward)
    assert torch.equal(lm(text()).logits, before)


def test_what_cannot_be_compiled_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = new_language_model(FAMILIES["opt"]())
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match=r"training\.compile: there is no C\+\+ compiler 'no-such-compiler' here"):
        augmented(lm).compiled_layers()
    with pytest.raises(ConfigError, match=r"training\.compile: block adapters work inside"):
        augmented(lm, block_adapters="mlp").compiled_layers()
