"""Starting from saved adapters: what each has learned is there, together, and what does not fit is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from families import E, augmented, language_model, new_language_model, perceived, text

from epalm.errors import AdapterError
from epalm.models import PerceptualLM

SEES, HEARS = {"image": E}, {"audio": 5}


def moved(widths: dict[str, int], seed: int, **settings: Any) -> PerceptualLM:
    """An adapter for one sense that is nowhere near a new one."""
    model = augmented(language_model("opt", "eager"), widths=widths, **settings)
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameters in model.trained_parameters().values():
            for parameter in parameters:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=chance))
    return model


@pytest.fixture
def saved(tmp_path: Path) -> dict[str, Path]:
    """One that sees and one that hears, with different prompts."""
    for seed, (name, widths) in enumerate({"sees": SEES, "hears": HEARS}.items()):
        moved(widths, seed).save_pretrained(tmp_path / name)
    return {name: tmp_path / name for name in ("sees", "hears")}


def refusal(action: Callable[[], Any]) -> str:
    with pytest.raises(AdapterError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@torch.no_grad()
def test_a_run_goes_on_where_an_adapter_is(saved: dict[str, Path]) -> None:
    model = augmented(language_model("opt", "eager"), widths=SEES)
    given = perceived(model, 3)
    before = model(text(), features=given).logits
    model.start_from(saved["sees"])
    learned = PerceptualLM.from_pretrained(saved["sees"], language_model=language_model("opt", "eager"))
    assert torch.equal(model(text(), features=given).logits, learned(text(), features=given).logits)
    assert not torch.equal(model(text(), features=given).logits, before)


@torch.no_grad()
def test_two_senses_come_together(saved: dict[str, Path], tmp_path: Path) -> None:
    """With prompts alike, what is only seen or only heard is answered exactly as by the adapter of that sense."""
    both = augmented(language_model("opt", "eager"), widths=SEES | HEARS)
    both.start_from(saved["hears"], saved["sees"])
    alone = {
        name: PerceptualLM.from_pretrained(place, language_model=language_model("opt", "eager"))
        for name, place in saved.items()
    }
    prompts = [each.trained_state_dict()["prompt.weight"] for each in alone.values()]
    assert not torch.allclose(*prompts)
    torch.testing.assert_close(both.trained_state_dict()["prompt.weight"], (prompts[0] + prompts[1]) / 2)
    for name, each in alone.items():
        each.load_trained_state_dict(
            each.trained_state_dict() | {"prompt.weight": both.trained_state_dict()["prompt.weight"]}
        )
        given = perceived(each, 3)
        torch.testing.assert_close(both(text(), features=given).logits, each(text(), features=given).logits, msg=name)


def test_what_no_adapter_holds_stays_new(saved: dict[str, Path]) -> None:
    model = augmented(language_model("opt", "eager"), widths=SEES | HEARS)
    new = {name: tensor.clone() for name, tensor in model.trained_state_dict().items()}
    model.start_from(saved["hears"])
    assert {name for name, tensor in model.trained_state_dict().items() if torch.equal(tensor, new[name])} == {
        name for name in new if name.startswith("connector.image")
    }


def test_what_does_not_fit_is_refused_and_nothing_is_changed(saved: dict[str, Path], tmp_path: Path) -> None:
    lm = language_model("opt", "eager")
    deaf = augmented(lm, widths=SEES)
    before = {name: tensor.clone() for name, tensor in deaf.trained_state_dict().items()}
    assert "perceives audio, and here there is no encoder for it" in refusal(lambda: deaf.start_from(saved["hears"]))
    said = refusal(lambda: deaf.start_from(saved["sees"], saved["sees"]))
    assert "perceives image, and so does" in said
    assert "no such directory" in refusal(lambda: deaf.start_from(saved["sees"], tmp_path / "nothing"))
    moved(SEES, 0, prompt_tokens=2).save_pretrained(tmp_path / "short")
    assert "no place here for tensor 'prompt.weight' [2, " in refusal(lambda: deaf.start_from(tmp_path / "short"))
    assert all(torch.equal(before[name], tensor) for name, tensor in deaf.trained_state_dict().items())
    wide = augmented(lm, widths={"image": E + 1})
    assert f"width is {E + 1}, the adapter was trained on {E}" in refusal(lambda: wide.start_from(saved["sees"]))
    stranger = new_language_model(lm.config)
    with torch.no_grad():
        stranger.get_input_embeddings().weight.add_(1)
    other = augmented(stranger, widths=SEES)
    assert "language model with other weights" in refusal(lambda: other.start_from(saved["sees"]))
