"""Language models whose weights accelerate keeps in main memory or on a disk: the same as with all of them in place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model
from families import FAMILIES, E, augmented, features, language_model, new_language_model, padded, text
from transformers import CohereConfig, PreTrainedModel, ViTConfig, ViTModel

from epalm.encoders import load_encoder
from epalm.errors import ConfigError
from epalm.models import PerceptualLM
from epalm.models.adapter_io import read_adapter, write_adapter
from epalm.models.selfcheck import PROVEN
from epalm.runtime.fingerprint import digest, fingerprint
from epalm.runtime.offloading import execution_device, is_offloaded

CPU = torch.device("cpu")


def to_memory(model: PreTrainedModel, folder: Path) -> None:
    cpu_offload(model, CPU)


def to_memory_with_buffers(model: PreTrainedModel, folder: Path) -> None:
    cpu_offload(model, CPU, offload_buffers=True)


def to_disk(model: PreTrainedModel, folder: Path) -> None:
    disk_offload(model, str(folder), CPU)


def in_part(model: PreTrainedModel, folder: Path) -> None:
    """The last layers on the disk, as a `device_map` may say it."""
    leaves = [name for name, module in model.named_modules() if not any(True for _ in module.children())]
    places = {name: "disk" if {"3", "4"} & set(name.split(".")) else "cpu" for name in leaves}
    dispatch_model(model, places, "cpu", offload_dir=str(folder), force_hooks=True)


PLACES: dict[str, Callable[[PreTrainedModel, Path], None]] = {
    place.__name__: place for place in (to_memory, to_memory_with_buffers, to_disk, in_part)
}


def everything_of(model: PerceptualLM) -> dict[str, Any]:
    """All that can be asked of a model."""
    ids, mask = padded(text(), [9, 5, 7], "left")
    given = {"features": features(3)}
    loss = model(ids, mask, labels=ids, skip_logits=True, **given).loss
    trained = [tensor for part in model.trained_parameters().values() for tensor in part]
    return {
        "logits": model(ids, mask, **given).logits,
        "loss": loss,
        **{f"gradient {number}": gradient for number, gradient in enumerate(torch.autograd.grad(loss, trained))},
        "greedy": model.generate(ids, mask, max_new_tokens=4, **given),
        "beams": model.generate(ids, mask, max_new_tokens=4, num_beams=3, **given),
        "ranked": torch.tensor(model.rank([[5, 6], [7], [8, 9]], ids, mask, **given).log_likelihood),
        "plain": model.language_model(ids).logits,
    }


@pytest.mark.parametrize(
    ("family", "place"),
    [*(("opt", place) for place in PLACES), ("gpt2", "to_disk"), ("gemma2", "to_memory_with_buffers")],
)
def test_an_offloaded_language_model_is_the_same(family: str, place: str, tmp_path: Path) -> None:
    settings = {"prompt": "mlp", "block_adapters": "mlp" if family == "opt" else "none", "bottleneck": 4}
    whole = augmented(language_model(family, "eager"), **settings)
    lm = new_language_model(FAMILIES[family]())
    PLACES[place](lm, tmp_path / "weights")
    assert is_offloaded(lm)
    away = augmented(lm, **settings)
    assert away.device == CPU
    expected, found = everything_of(whole), everything_of(away)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=lambda message, name=name: f"{name}: {message}")

    assert str(away.summary()) == str(whole.summary())
    away.save_pretrained(tmp_path / "adapter")
    card = read_adapter(tmp_path / "adapter").card.language_model
    assert card.fingerprint == whole.card().language_model.fingerprint is not None
    again = PerceptualLM.from_pretrained(tmp_path / "adapter", language_model=language_model(family, "eager"))
    ids = text(1)
    assert torch.allclose(again(ids, features=features(1)).logits, away(ids, features=features(1)).logits, atol=1e-5)


def test_lower_layers_of_an_offloaded_language_model(tmp_path: Path) -> None:
    lm = new_language_model(FAMILIES["opt"]())
    to_disk(lm, tmp_path)
    whole, away = (augmented(each, prompt="none") for each in (language_model("opt", "eager"), lm))
    ids, given = text(), {"labels": text(), "features": features(3)}
    expected = whole(ids, **given).loss
    assert torch.allclose(away(ids, lower_layers=away.lower_layers(), **given).loss, expected)


def test_an_unproven_family_is_examined_with_its_weights_away() -> None:
    config = CohereConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4
    )
    assert config.model_type not in PROVEN
    lm = new_language_model(config)
    cpu_offload(lm, CPU, offload_buffers=True)
    passes = []
    lm.register_forward_pre_hook(lambda module, args: passes.append(module))
    model = augmented(lm)
    assert len(passes) > 3
    assert torch.isfinite(model(text(), features=features(3)).logits).all()


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({"device": "meta"}, "device"),
        ({"torch_dtype": "bfloat16"}, "torch_dtype"),
        ({"quantization": "int8"}, "quantization"),
    ],
)
def test_what_is_offloaded_stays_where_it_is(settings: dict[str, Any], asked: str) -> None:
    lm = new_language_model(FAMILIES["llama"]())
    cpu_offload(lm, CPU)
    with pytest.raises(ConfigError, match=rf"^{asked}: accelerate has placed the parts of the live language model"):
        PerceptualLM.build(lm, encoder_width=E, **settings)
    same = PerceptualLM.build(lm, encoder_width=E, device="cpu", torch_dtype="float32")
    shared = PerceptualLM.build(same, encoder_width=E)
    assert shared.device == same.device == CPU


def test_an_offloaded_encoder_is_the_same() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
    live = ViTModel(ViTConfig(**sizes, image_size=16, patch_size=8))
    whole, inputs = load_encoder(live), {"pixel_values": torch.randn(2, 3, 16, 16)}
    expected = whole.features(inputs, 2), fingerprint(live), digest(live)
    cpu_offload(live, CPU, offload_buffers=True)
    away = load_encoder(live)
    assert torch.equal(away.features(inputs, 2), expected[0])
    assert (fingerprint(live), digest(live)) == expected[1:]
    assert away.device == CPU
    with pytest.raises(ConfigError, match=r"^dtype: accelerate has placed the parts of ViTModel"):
        load_encoder(live, dtype=torch.bfloat16)


def test_weights_that_are_nowhere_have_no_fingerprint(tmp_path: Path) -> None:
    with torch.device("meta"):
        lm = new_language_model(FAMILIES["llama"]())
    assert execution_device(lm).type == "meta"
    model = augmented(lm)
    assert model.device.type == "meta"
    card = model.card()
    assert card.language_model.fingerprint is None
    tensors = {name: torch.zeros(tensor.shape) for name, tensor in model.trained_state_dict().items()}
    write_adapter(tmp_path, card, tensors)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["language_model"]["fingerprint"] is None
    assert "| fingerprint | none: " in (tmp_path / "README.md").read_text()
