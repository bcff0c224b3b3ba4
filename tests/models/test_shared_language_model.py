"""Several adapters on one language model: one copy in memory, and none of them notices the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from families import E, augmented, language_model, new_language_model, perceived, text
from torch import Tensor, nn
from transformers import ViTConfig, ViTModel

from epalm.errors import AdapterError, ConfigError
from epalm.models import PerceptualLM

KINDS: dict[str, dict[str, Any]] = {
    "image": {"widths": {"image": E}, "block_adapters": "both", "bottleneck": 4},
    "audio": {"widths": {"audio": 5}, "block_adapters": "mlp", "bottleneck": 2, "start": 2, "end": 4, "prompt": "mlp"},
    "video": {"widths": {"video": 7}, "mask": "legacy", "prompt": "none", "connector": "per_level"},
}
"""Adapters that differ in all that is an adapter's own."""


def strong(model: PerceptualLM) -> PerceptualLM:
    """Block adapters far from the identity, so that a leak would show."""
    if model.block_adapters is not None:
        with torch.no_grad():
            for parameter in model.block_adapters.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4)))
    return model


def bytes_of(modules: Iterable[nn.Module]) -> int:
    """Memory of the weights; what is shared counts once."""
    weights = {p.data_ptr(): p.nbytes for module in modules for p in module.parameters()}
    return sum(weights.values())


def results(model: PerceptualLM) -> tuple[Tensor, ...]:
    given = perceived(model, 3)
    generated = (model.generate(text(), features=given, max_new_tokens=6, num_beams=beams) for beams in (1, 3))
    with torch.no_grad():
        return model(text(), features=given).logits, *generated


@pytest.fixture
def saved(tmp_path: Path) -> dict[str, Path]:
    """One adapter of each kind."""
    for name, settings in KINDS.items():
        strong(augmented(language_model("opt", "eager"), **settings)).save_pretrained(tmp_path / name)
    return {name: tmp_path / name for name in KINDS}


def fresh() -> Any:
    """The same language model, apart from all others."""
    return new_language_model(language_model("opt", "eager").config)


def test_one_language_model_serves_them_all_to_the_bit(saved: dict[str, Path]) -> None:
    alone = {name: results(PerceptualLM.from_pretrained(saved[name], language_model=fresh())) for name in KINDS}
    first = PerceptualLM.from_pretrained(saved["image"], language_model=fresh())
    plain = first.language_model(input_ids=text()).logits
    models = {"image": first}
    for name in ("audio", "video"):
        models[name] = PerceptualLM.from_pretrained(saved[name], language_model=first)
    for name in ("image", "audio", "image", "video", "audio", "image"):
        assert all(torch.equal(*pair) for pair in zip(results(models[name]), alone[name], strict=True)), name
    assert torch.equal(first.language_model(input_ids=text()).logits, plain)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in first.language_model.modules())


def test_memory_holds_the_language_model_once(saved: dict[str, Path]) -> None:
    first = PerceptualLM.from_pretrained(saved["image"], language_model=fresh())
    models = [first, *(PerceptualLM.from_pretrained(saved[name], language_model=first) for name in ("audio", "video"))]
    assert all(model.language_model is first.language_model for model in models)
    trained = [part for model in models for part in model.trained_parts().values()]
    assert bytes_of(models) == bytes_of([first.language_model]) + bytes_of(trained)


def test_training_one_changes_none_of_the_others(saved: dict[str, Path]) -> None:
    first = PerceptualLM.from_pretrained(saved["image"], language_model=fresh())
    other = PerceptualLM.build(first, config="epalm_ada", encoder_width={"audio": 5}).train()
    before = results(first)
    optimizer = torch.optim.SGD([p for group in other.trained_parameters().values() for p in group], lr=1.0)
    other(text(), labels=text(), features=perceived(other, 3)).loss.backward()
    optimizer.step()
    assert all(parameter.grad is None for parameter in first.parameters())
    assert all(torch.equal(*pair) for pair in zip(results(first), before, strict=True))


def test_name_and_tokenizer_are_shared_too(tmp_path: Path) -> None:
    lm = tiny.save_language_model(tmp_path / "lm")
    for name in ("image", "audio"):
        PerceptualLM.build(lm, encoder_width={name: E}).save_pretrained(tmp_path / name)
    first = PerceptualLM.from_pretrained(tmp_path / "image")
    second = PerceptualLM.from_pretrained(tmp_path / "audio", language_model=first)
    assert second.tokenizer is first.tokenizer is not None
    assert second.source == first.source == str(lm)
    second.save_pretrained(tmp_path / "again")
    assert PerceptualLM.from_pretrained(tmp_path / "again").source == str(lm)  # its card names it, as if it were alone


def test_encoders_can_be_shared_as_well(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": E, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    vision = ViTModel(ViTConfig(**sizes, image_size=8, patch_size=4), add_pooling_layer=False)
    first = PerceptualLM.build(fresh(), vision, "epalm")
    PerceptualLM.build(first, first.encoders).save_pretrained(tmp_path)
    second = PerceptualLM.from_pretrained(tmp_path, language_model=first, encoders=first.encoders)
    assert second.encoders["image"] is first.encoders["image"]


def test_another_language_model_is_refused(saved: dict[str, Path]) -> None:
    config = language_model("opt", "eager").config
    other = augmented(new_language_model(config, seed=9))
    with pytest.raises(AdapterError, match=r"image: trained on a language model with other weights") as caught:
        PerceptualLM.from_pretrained(saved["image"], language_model=other)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"torch_dtype": torch.bfloat16}, "is shared and stays torch.float32, torch.bfloat16 was asked for"),
        ({"device": "meta"}, "is shared and stays cpu, meta was asked for"),
        ({"attn_implementation": "sdpa"}, "is shared and stays eager, sdpa was asked for"),
    ],
)
def test_what_is_shared_stays_as_it_is(saved: dict[str, Path], asked: dict[str, Any], said: str) -> None:
    first = PerceptualLM.from_pretrained(saved["image"], language_model=fresh())
    again: Callable[..., Any] = PerceptualLM.from_pretrained
    with pytest.raises(ConfigError, match=said):
        again(saved["audio"], language_model=first, **asked)
    same = {"torch_dtype": torch.float32, "device": "cpu", "attn_implementation": "eager"}
    assert again(saved["audio"], language_model=first, **same).language_model is first.language_model
