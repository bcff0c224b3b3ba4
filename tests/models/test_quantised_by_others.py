"""Language models in fewer bits by bitsandbytes and torchao: what is trained on them, and what adapters say of them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from epalm.errors import ConfigError
from epalm.models import PerceptualLM
from epalm.models.quantised import quantization_of
from epalm.settings import AdapterConfig

E = 5
CONFIG = AdapterConfig.from_preset("epalm_pt").model_copy(update={"start": 1, "end": 3})
WIDTH = 64  # bitsandbytes' blocks have 64 values
needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)
needs_torchao = pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="torchao is not installed")
FAMILIES: dict[str, dict[str, int]] = {
    "opt": {"ffn_dim": 2 * WIDTH, "word_embed_proj_dim": WIDTH},
    "llama": {"intermediate_size": 2 * WIDTH},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a language model of each family."""
    folder = tmp_path_factory.mktemp("wide")
    for family, sizes in FAMILIES.items():
        tiny.save_language_model(folder / family, family, hidden_size=WIDTH, **sizes)
    return folder


def built(source: Any, **options: Any) -> PerceptualLM:
    torch.manual_seed(0)
    return PerceptualLM.build(source, config=CONFIG, encoder_width=E, **options)


def given(model: PerceptualLM) -> tuple[Tensor, Tensor]:
    """Three texts, (3, 9), and their features."""
    levels = model.levels["image"]
    return torch.arange(27).view(3, 9) + 5, torch.linspace(-1, 1, 3 * levels * E).view(3, levels, E)


def gradients(model: PerceptualLM) -> Tensor:
    """Of all that is trained, as one vector."""
    ids, features = given(model)
    model.zero_grad()
    model.train()(ids, labels=ids, features=features).loss.backward()
    assert all(parameter.grad is None for parameter in model.language_model.parameters())
    found = [parameter.grad for part in model.trained_parameters().values() for parameter in part]
    assert {tensor.dtype for tensor in found if tensor is not None} == {torch.float32}
    return torch.cat([tensor.flatten() for tensor in found if tensor is not None])


def assert_trains_as(model: PerceptualLM, whole: PerceptualLM, near: float) -> None:
    """The gradients point where those of the whole model do, also after a pass without; steps lower the loss."""
    answers(model)
    assert torch.cosine_similarity(gradients(model), gradients(whole), dim=0) > near
    ids, features = given(model)
    trained = [parameter for part in model.trained_parameters().values() for parameter in part]
    optimizer = torch.optim.AdamW(trained, lr=0.01)
    losses = []
    for _ in range(5):
        losses.append(model(ids, labels=ids, features=features).loss.item())
        gradients(model)
        optimizer.step()
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] - 0.1
    assert {parameter.dtype for parameter in trained} == {torch.float32}
    model.eval()


def answers(model: PerceptualLM, **options: Any) -> Tensor:
    ids, features = given(model)
    said: Tensor = model.generate(ids, features=features, max_new_tokens=4, num_beams=3, **options)
    return said


@needs_bitsandbytes
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("bits", "far", "alike"), [("8bit", 0.05, 0.98), ("4bit", 0.3, 0.9)])
@pytest.mark.parametrize("family", FAMILIES)
def test_bitsandbytes_holds_what_is_frozen(
    models: Path, tmp_path: Path, family: str, bits: Any, far: float, alike: float, dtype: torch.dtype
) -> None:
    whole, model = (
        built(models / family, torch_dtype=dtype),
        built(models / family, quantization=bits, torch_dtype=dtype),
    )
    ids, features = given(model)
    with torch.no_grad():
        exact, seen = (one(ids, features=features).logits.float() for one in (whole, model))
    assert (seen - exact).norm() < far * exact.norm()
    assert model.summary().frozen == whole.summary().frozen
    assert_trains_as(model, whole, alike)
    assert torch.equal(answers(model), answers(model, use_cache=False))
    model.save_pretrained(tmp_path)
    again = PerceptualLM.from_pretrained(tmp_path, torch_dtype=dtype)
    assert quantization_of(again.language_model) == bits
    assert again.card().language_model.fingerprint is None
    assert torch.equal(answers(again), answers(model))


@needs_bitsandbytes
def test_weights_that_were_packed_for_inference_are_refused(models: Path) -> None:
    from transformers import BitsAndBytesConfig

    way = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    lm = AutoModelForCausalLM.from_pretrained(models / "opt", dtype=torch.bfloat16, quantization_config=way)
    with torch.no_grad():
        lm(torch.arange(9).view(1, 9))
    if not lm.model.decoder.layers[0].fc1.weight.quant_state.__dict__.get("packing_format_for_cpu"):
        pytest.skip("this processor has no bfloat16 that bitsandbytes packs weights for")
    with pytest.raises(ConfigError, match="4-bit weights have been packed for inference; load it again"):
        built(lm)


@needs_torchao
@pytest.mark.parametrize("family", FAMILIES)
def test_a_language_model_that_torchao_quantised_is_served_as_it_is(models: Path, tmp_path: Path, family: str) -> None:
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    way = TorchAoConfig(Int8WeightOnlyConfig())
    lm = AutoModelForCausalLM.from_pretrained(models / family, dtype=torch.float32, quantization_config=way)
    model, whole = built(lm), built(models / family)
    ids, features = given(model)
    with torch.no_grad():
        exact, seen = (one(ids, features=features).logits for one in (whole, model))
    assert 0 < (seen - exact).norm() < 0.05 * exact.norm()
    assert_trains_as(model, whole, 0.98)
    assert torch.equal(answers(model), answers(model, use_cache=False))
    model.save_pretrained(tmp_path / "adapter")
    lm.save_pretrained(tmp_path / "lm")
    from_files = PerceptualLM.from_pretrained(tmp_path / "adapter", language_model=tmp_path / "lm")
    assert torch.equal(answers(from_files), answers(model))
    with pytest.raises(ConfigError, match=r"is quantised already, .* and cannot be given int8; leave it out"):
        built(lm, quantization="int8")
    with pytest.raises(ConfigError, match=r"is quantised already, .* and cannot be given int8; leave it out"):
        built(tmp_path / "lm", quantization="int8")
