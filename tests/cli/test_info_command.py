"""`epalm info`: what it tells of a recipe and of an adapter."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from epalm.models import PerceptualLM

Command = Callable[..., Any]


@pytest.mark.parametrize("preset", ["epalm_pt", "epalm", "epalm_ada", "text_only"])
def test_the_share_of_a_recipe_is_that_of_the_model_it_builds(
    place: Path, backbones: Path, epalm: Command, preset: str
) -> None:
    for encoder in ("vit", "other-vit"):  # saved without and with its pooler
        settings = ("--adapter.preset", preset, "--model.encoders.image", backbones / encoder)
        printed = epalm("info", "recipe.yaml", *settings, "--json")
        facts = json.loads(printed.out)
        assert facts["recipe"]["adapter"]["preset"] == preset
        options = ("--data.train", "questions.jsonl", "--output", encoder, "--training.steps", 1)
        assert epalm("train", "recipe.yaml", *settings, *options).code == 0
        card = json.loads(Path(encoder, "adapter_config.json").read_text())
        assert facts["trained_parameters"] == card["trained_parameters"]
        assert facts["trained_share"] == card["trained_share"]
        assert f"{card['trained_share']:.4%}" in epalm("info", "recipe.yaml", *settings).out
        assert f"{card['trained_share']:.4%}" in epalm("info", encoder).out


def test_info_of_an_adapter(adapter: Path, backbones: Path, epalm: Command) -> None:
    printed = epalm("info", adapter)
    assert printed.code == 0
    for fact in (
        str(backbones / "opt"),
        str(backbones / "vit"),
        "layers 0 to 2 of 3",
        "learned          question_answering",
    ):
        assert fact in printed.out
    facts = json.loads(epalm("info", adapter, "--json").out)
    assert facts["tensors"]["prompt.weight"] == [1, 24]
    assert facts["metadata"]["training"]["steps"] == 4


@pytest.mark.parametrize(
    ("tasks", "shown"), [("captioning", "captioning"), (3, "3"), ([1, "b"], "1 and b"), ([], "unknown")]
)
def test_metadata_may_hold_anything(place: Path, backbones: Path, epalm: Command, tasks: Any, shown: str) -> None:
    model = PerceptualLM.build(backbones / "opt", backbones / "vit")
    model.save_pretrained("a", {"tasks": tasks, "training": "with care"})
    printed = epalm("info", "a")
    assert printed.code == 0
    assert f"learned          {shown}\n" in printed.out
    assert epalm("evaluate", "a", "--data", "captions.jsonl", "--output", "result").code == 0
    assert json.loads(Path("result/settings.json").read_text())["seed"] is None


def test_an_encoder_whose_configuration_is_not_there_is_named_with_the_remedy(
    place: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    info = ("info", "recipe.yaml", "--model.encoders.image", encoder)
    assert f"{encoder}: is an empty directory; download the model into it" in refused(*info)
    (encoder / "config.json").write_text('{"model_type": "quux"}')
    assert f"{encoder}: transformers" in refused(*info)
    (encoder / "config.json").write_text("{")
    assert f"{encoder}: config.json is not valid JSON" in refused(*info)
