"""A language model in half precision: what `auto` takes, and that what is trained stays as precise as it was."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from families import FAMILIES, WIDTH, E, augmented, features, language_model, new_language_model, padded, text
from torch import Tensor

from epalm.encoders import load_encoder
from epalm.errors import ConfigError
from epalm.models import PerceptualLM
from epalm.models.anatomy import study
from epalm.models.layout import lay_out
from epalm.models.precision import best_attention, best_dtype
from epalm.recipe import ModelSettings, build_recipe
from epalm.training.run import load_model


def bf16_in_proc() -> bool | None:
    """Whether the kernel says that this CPU has instructions for bfloat16; None where it says nothing."""
    listed = Path("/proc/cpuinfo")
    if not listed.is_file():
        return None
    words = set(listed.read_text().split())
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})


def gradients(model: PerceptualLM) -> dict[str, Tensor]:
    """Of every trained tensor, after one step on rows of different lengths."""
    ids, mask = padded(text(), [9, 4, 6], "left")
    output = model.train()(ids, mask, labels=ids, features=features(3))
    assert output.loss.dtype == torch.float32
    output.loss.backward()
    found = {f"{part}.{i}": p.grad for part, ps in model.trained_parameters().items() for i, p in enumerate(ps)}
    assert all(gradient is not None for gradient in found.values())
    return found  # type: ignore[return-value]


def test_auto_follows_the_hardware() -> None:
    assert best_dtype("meta") == torch.float32  # a device that nothing is known of
    assert best_dtype("cpu") == best_dtype(None) == best_dtype(torch.device("cpu"))
    listed = bf16_in_proc()
    if listed is None or not torch.backends.mkldnn.is_available():
        pytest.skip("nothing here tells what the CPU can do")
    assert best_dtype("cpu") == (torch.bfloat16 if listed else torch.float32)


def test_only_bfloat16_on_the_cpu_asks_for_another_attention() -> None:
    assert best_attention(torch.bfloat16, None) == best_attention(torch.bfloat16, "cpu") == "eager"
    assert best_attention(torch.float32, "cpu") is None
    assert best_attention(torch.bfloat16, "cuda:0") is None


def test_a_recipe_leaves_it_to_the_hardware(backbones: Path) -> None:
    assert ModelSettings().dtype() == "auto"
    values = tiny.recipe_values(backbones)
    held = {}
    for name in ("auto", "float32", "bfloat16"):
        model = load_model(build_recipe(values, {"model.torch_dtype": name}))
        held[name] = model.language_model.dtype, model.encoders["image"].backbone.dtype
        assert {tensor.dtype for tensor in model.trained_state_dict().values()} == {torch.float32}
        eager = model.language_model.dtype == torch.bfloat16
        assert model.language_model.config._attn_implementation == ("eager" if eager else "sdpa")
    assert held["auto"] == (best_dtype("cpu"), torch.float32)
    assert held["float32"] == (torch.float32, torch.float32)
    assert held["bfloat16"] == (torch.bfloat16, torch.bfloat16)
    asked = load_model(build_recipe(values, {"model.torch_dtype": "bfloat16", "model.attn_implementation": "sdpa"}))
    assert asked.language_model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"torch_dtype": "flaot16"}, "torch_dtype: weights cannot be held in 'flaot16'; did you mean 'float16'?"),
        ({"torch_dtype": torch.int8}, "torch_dtype: weights cannot be held in 'torch.int8'; "),
        ({"device": "foo"}, "device: 'foo' cannot be used here; choose from cpu"),
        ({"device": "cuda:99"}, "device: 'cuda:99' cannot be used here; choose from cpu"),
        ({"device": 1.5}, "device: '1.5' cannot be used here; choose from cpu"),
    ],
)
def test_what_no_weights_can_be_held_in_is_refused(backbones: Path, tmp_path: Path, given: Any, message: str) -> None:
    lm, vit = str(backbones / "opt"), str(backbones / "vit")
    first = PerceptualLM.build(lm, vit)
    first.save_pretrained(tmp_path)
    message_pattern = f"^{re.escape(message)}[^\n]*$"
    for source in (lm, first.language_model, first):  # files, a live model, a shared one
        with pytest.raises(ConfigError, match=message_pattern):
            PerceptualLM.build(source, vit, **given)
    with pytest.raises(ConfigError, match=message_pattern):
        PerceptualLM.from_pretrained(tmp_path, **given)
    with pytest.raises(ConfigError, match=message_pattern.removeprefix("^torch_")):
        load_encoder(vit, **{name.removeprefix("torch_"): value for name, value in given.items()})


def test_a_way_to_quantise_that_there_is_not_is_refused(backbones: Path) -> None:
    with pytest.raises(ConfigError, match=r"^quantization: there is no 'int9'; did you mean 'int8'\?$"):
        PerceptualLM.build(backbones / "opt", encoder_width=E, quantization="int9")


def test_a_dtype_may_be_given_by_its_name(backbones: Path) -> None:
    model = PerceptualLM.build(backbones / "opt", backbones / "vit", torch_dtype="bfloat16", device="cpu")
    assert model.language_model.dtype == model.encoders["image"].backbone.dtype == torch.bfloat16
    assert PerceptualLM.build(model, encoder_width=E, torch_dtype="bfloat16").language_model is model.language_model


def test_auto_leaves_live_and_shared_language_models_as_they_are() -> None:
    lm = new_language_model(FAMILIES["opt"]()).to(torch.float16)
    first = PerceptualLM.build(lm, encoder_width=E, torch_dtype="auto")
    assert first.language_model.dtype == torch.float16
    assert PerceptualLM.build(first, encoder_width=E, torch_dtype="auto").language_model is lm


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ["opt", "opt-projected", "gpt2", "llama", "gemma3"])
def test_gradients_through_bfloat16_are_float32_and_near_the_precise_ones(family: str, attention: str) -> None:
    settings: dict[str, Any] = {"prompt": "mlp", "block_adapters": "both", "bottleneck": 4}
    models = [augmented(new_language_model(FAMILIES[family](), attention), **settings) for _ in range(2)]
    models[1].language_model.to(torch.bfloat16)
    precise, half = (gradients(model) for model in models)
    for name in precise:
        assert half[name].dtype == torch.float32
        assert torch.isfinite(half[name]).all()
    # bfloat16 keeps 8 bits, of which the tiny models' large weights cost a few
    whole, seen = (torch.cat([tensor.flatten() for tensor in found.values()]) for found in (precise, half))
    assert (whole - seen).norm() < 0.1 * whole.norm()
    for part in ("connector", "prompt", "block_adapters"):
        one, other = (
            torch.cat([tensor.flatten() for name, tensor in found.items() if name.startswith(part)])
            for found in (precise, half)
        )
        assert torch.cosine_similarity(one, other, dim=0) > 0.99, part


def test_the_soft_prompts_gradient_is_summed_over_the_batch_in_float32() -> None:
    """Of 257 rows; bfloat16 knows 256 and 258."""
    anatomy = study(language_model("opt", "eager"))
    prompt = torch.zeros(3, WIDTH, requires_grad=True)
    words = torch.zeros(257, 4, WIDTH, dtype=torch.bfloat16)
    layout = lay_out(anatomy, words, torch.ones(257, 4), prompt, slots=1)
    assert layout.embeddings.dtype == torch.bfloat16
    layout.embeddings.sum(dtype=torch.float32).backward()
    assert prompt.grad is not None
    assert (prompt.grad == 257).all()
