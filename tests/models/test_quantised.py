"""A quantised language model: how much smaller, how near, and that an adapter knows what it was trained on."""

from __future__ import annotations

import copy
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from families import FAMILIES, E, augmented, features, language_model, new_language_model, padded, text
from torch import nn
from transformers.pytorch_utils import Conv1D

from epalm.errors import AdapterError, ConfigError
from epalm.evaluation import Answerer
from epalm.evaluation.loading import load_adapters
from epalm.models import PerceptualLM
from epalm.models.anatomy import study
from epalm.models.cards import LanguageModelCard
from epalm.models.quantised import Int8Linear, quantization_of, to_int8
from epalm.recipe import build_recipe
from epalm.runtime.fingerprint import fingerprint
from epalm.training.run import run_recipe


def int8(family: str, attention: str = "eager", seed: int = 0) -> Any:
    """Like `language_model`, in int8."""
    lm = new_language_model(FAMILIES[family](), attention, seed)
    to_int8(study(lm).layers)
    return lm.requires_grad_(False)


def bytes_of(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in [*module.parameters(), *module.buffers()])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_layer_is_the_product_with_its_rounded_weights(dtype: torch.dtype, bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(48, 20, bias=bias).to(dtype)
    with torch.no_grad():
        linear.weight[3] = 0  # a row without any scale
        linear.weight[4] *= 1000
    layer = Int8Linear(linear)
    rounded = layer.weight * layer.scale[:, None]
    step = linear.weight.float().abs().amax(1, keepdim=True) / 127
    assert ((rounded - linear.weight).abs() <= step / 2 * (1 + 1e-5)).all()
    tolerance = {torch.float32: 1e-6, torch.bfloat16: 2e-2, torch.float16: 2e-3}[dtype]
    for rows in (1, 40):
        x = torch.randn(rows, 2, 48).to(dtype).requires_grad_()
        exact = x.detach().float() @ rounded.T + (linear.bias.float() if bias else 0)
        y = layer(x)
        assert y.dtype == dtype
        assert (y.float() - exact).norm() <= tolerance * exact.norm()
        back = torch.randn(rows, 2, 20).to(dtype)
        y.backward(back)
        expected = back.float() @ rounded
        assert x.grad.dtype == dtype
        assert (x.grad.float() - expected).norm() <= tolerance * expected.norm()


def test_large_products_do_not_overflow_in_float16() -> None:
    linear = nn.Linear(4096, 4, bias=False)
    nn.init.constant_(linear.weight, 1e-3)
    y = Int8Linear(linear)(torch.full((1, 4096), 8.0, dtype=torch.float16))
    torch.testing.assert_close(y.float(), torch.full((1, 4), 32.8), rtol=1e-2, atol=0)


def test_the_way_back_keeps_no_dequantised_weights() -> None:
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        Int8Linear(nn.Linear(64, 64))(torch.randn(4, 64, requires_grad=True))
    assert sum(tensor.nbytes for tensor in kept) < 64 * 64 * 2  # a byte a weight, and the scales


@pytest.mark.parametrize("family", ["opt", "opt-projected", "gpt2", "llama", "bloom", "falcon-rotary", "gpt_neox"])
@torch.no_grad()
def test_a_quantised_language_model_is_small_and_near(family: str) -> None:
    lm = new_language_model(FAMILIES[family]()).requires_grad_(False)
    unquantised = copy.deepcopy(lm)
    layers = sum(bytes_of(layer) for layer in study(unquantised).layers)
    rest = bytes_of(unquantised) - layers
    model = PerceptualLM.build(lm, encoder_width=E, quantization="int8")
    assert quantization_of(lm) == "int8"
    assert not any(isinstance(part, nn.Linear | Conv1D) for layer in model.anatomy.layers for part in layer.modules())
    assert not isinstance(lm.get_output_embeddings(), Int8Linear)
    quantised = sum(bytes_of(layer) for layer in model.anatomy.layers)
    assert quantised < 0.4 * layers  # a quarter, and biases, norms and scales, which these narrow layers have many of
    assert bytes_of(lm) == rest + quantised
    exact, near = unquantised(text()).logits, lm(text()).logits
    assert (near - exact).norm() < 0.05 * exact.norm()
    before, after = (LanguageModelCard.of(one, study(one), None, None) for one in (unquantised, lm))
    assert after == before.model_copy(update={"quantization": "int8"})
    counted = [PerceptualLM.build(one, encoder_width=E).summary().frozen for one in (unquantised, lm)]
    assert counted[0] == counted[1]


def test_shared_weights_of_a_small_value_keep_their_print() -> None:
    """Half of the weights round to 0, which has no sign."""
    lm = new_language_model(FAMILIES["opt"]())
    with torch.no_grad():
        for layer in study(lm).layers:
            layer.fc1.weight[:, ::2] *= 1e-6
    before = fingerprint(lm)
    to_int8(study(lm).layers)
    assert fingerprint(lm) == before


@pytest.mark.parametrize("family", ["opt", "gpt2", "llama"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_flow_through_to_what_is_trained(family: str, dtype: torch.dtype) -> None:
    found = {}
    for name, lm in (("float", new_language_model(FAMILIES[family]())), ("int8", int8(family))):
        model = augmented(lm.to(dtype) if name == "int8" else lm, block_adapters="both", bottleneck=4).train()
        ids, mask = padded(text(), [9, 4, 6], "left")
        model(ids, mask, labels=ids, features=features(3)).loss.backward()
        assert all(parameter.grad is None for parameter in lm.parameters())
        gradients = {part: [p.grad for p in ps] for part, ps in model.trained_parameters().items()}
        assert set(gradients) == {"connector", "prompt", "block_adapters"}
        found[name] = {part: torch.cat([g.flatten() for g in gs]) for part, gs in gradients.items()}
    for part, expected in found["float"].items():
        seen = found["int8"][part]
        assert seen.dtype == torch.float32
        assert torch.cosine_similarity(seen, expected, dim=0) > 0.98, part


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_what_must_always_hold_holds_quantised(attention: str) -> None:
    model = augmented(int8("llama", attention))
    ids, mask = padded(text(), [9, 4, 6], "left")
    cached, uncached = (
        model.generate(ids, mask, features=features(3), max_new_tokens=6, num_beams=3, use_cache=use_cache)
        for use_cache in (True, False)
    )
    assert torch.equal(cached, uncached)
    together = model(ids, mask, features=features(3)).logits
    alone = model(text()[1:2, :4], features=features(3)[1:2]).logits
    torch.testing.assert_close(together[1, -4:], alone[0, -4:], rtol=0, atol=1e-5)


def test_a_live_language_model_that_is_quantised_stays_so(tmp_path: Path) -> None:
    model = PerceptualLM.build(int8("opt"), encoder_width=E)
    model.save_pretrained(tmp_path)
    again = PerceptualLM.from_pretrained(tmp_path, language_model=model)
    assert quantization_of(again.language_model) == "int8"
    shared: Callable[..., Any] = PerceptualLM.build
    assert shared(model, encoder_width=E, quantization="int8").language_model is model.language_model
    with pytest.raises(ConfigError, match="is shared and stays quantization int8, quantization none was asked for"):
        shared(model, encoder_width=E, quantization="none")
    with pytest.raises(ConfigError, match="has int8 and cannot be given none; name the files"):
        shared(model.language_model, encoder_width=E, quantization="none")
    with pytest.raises(ConfigError, match="has none and cannot be given 4bit; name the files"):
        shared(language_model("opt", "eager"), encoder_width=E, quantization="4bit")


def test_an_adapter_says_what_it_was_trained_on_and_is_loaded_so(
    place: Path, backbones: Path, epalm: Callable[..., Any]
) -> None:
    options = {"data.train": "questions.jsonl", "output": "adapter", "model.quantization": "int8"}
    run_recipe(build_recipe(tiny.recipe_values(backbones, steps=2), options))
    card = json.loads(Path("adapter/adapter_config.json").read_text())
    assert card["language_model"]["quantization"] == "int8"
    assert "quantization" not in card["metadata"]["model"]
    assert "opt, in int8 |" in Path("adapter/README.md").read_text()
    assert "held in          int8" in epalm("info", "adapter").out
    assert quantization_of(PerceptualLM.from_pretrained("adapter").language_model) == "int8"
    answerer = Answerer.load("adapter")
    assert quantization_of(answerer.model.language_model) == "int8"
    whole = Answerer.load("adapter", {"model.quantization": "none"})  # the same weights, known by their print
    assert quantization_of(whole.model.language_model) == "none"
    stranger = tiny.save_language_model(place / "stranger", seed=9)
    with pytest.raises(AdapterError, match="a language model with other weights"):
        PerceptualLM.from_pretrained("adapter", language_model=stranger)
    assert isinstance(answerer.ask("pictures/red.png", "which?"), str)


def test_adapters_trained_on_one_model_in_two_ways_are_not_mixed_unasked(place: Path, backbones: Path) -> None:
    lm = backbones / "opt"
    PerceptualLM.build(lm, encoder_width={"audio": 5}, quantization="int8").save_pretrained("audio")
    PerceptualLM.build(lm, backbones / "vit").save_pretrained("image")
    with pytest.raises(AdapterError, match=r"model\.quantization none, audio with int8; choose one for both"):
        load_adapters(["audio", "image"])
    both = load_adapters(["audio", "image"], {"model.quantization": "int8"})
    models = [model.language_model for model, _ in both.values()]
    assert models[0] is models[1]
    assert quantization_of(models[0]) == "int8"


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_a_package_that_is_missing_is_named(backbones: Path, bits: Any) -> None:
    with pytest.raises(ConfigError, match=f"{bits} needs the package bitsandbytes, which is not installed") as caught:
        PerceptualLM.build(backbones / "opt", encoder_width=E, quantization=bits)
    assert "\n" not in str(caught.value)
