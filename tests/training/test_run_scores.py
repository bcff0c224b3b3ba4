"""The scores of a run: on its way, and in the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny

from epalm.data.manifest import read_manifest
from epalm.errors import ConfigError
from epalm.evaluation import Answerer, Evaluation, score_rows
from epalm.evaluation.record import FILES, write_evaluation
from epalm.recipe import Recipe, build_recipe
from epalm.training import run_recipe

ADAPTER = {"README.md", "adapter_config.json", "adapter_model.safetensors"}
MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def recipe(place: Path, backbones: Path) -> MakeRecipe:
    """Twelve steps on captions, scored on the same."""

    def make(output: str, **training: Any) -> Recipe:
        data = {"data.train": place / "captions.jsonl", "data.validation": place / "captions.jsonl"}
        overrides = {"training.steps": 12, **{f"training.{name}": value for name, value in training.items()}}
        return build_recipe(tiny.recipe_values(backbones), {**data, "output": place / output, **overrides})

    return make


def test_what_decides_must_be_computable(recipe: MakeRecipe, place: Path) -> None:
    for metric, message in (
        ("spider", r"^training\.metric: spider cannot be computed here: there is no Java runtime"),
        ("CIDEr", r"^training\.metric: 'CIDEr' is not among the scores of .*: bleu_1, .*, cider, "),
    ):
        with pytest.raises(ConfigError, match=message):
            run_recipe(recipe("out", validate_every=2, metric=metric))
    assert not (place / "out").exists()


def test_java_is_not_started_on_the_way(recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def scored(*arguments: Any, java: bool, **options: Any) -> Evaluation:
        asked.append(java)
        return score_rows(*arguments, java=False, **options)

    for module in ("run", "scores"):
        monkeypatch.setattr(f"epalm.training.{module}.score_rows", scored)
    result = run_recipe(recipe("out", validate_every=6, metric="rouge_l"))
    assert "\nchosen: step " in result.as_text()
    assert " on 4 validation rows\n" in result.as_text()
    assert asked == [False, False, True]
    run_recipe(recipe("out"), java=False)
    assert asked[3:] == [False]


def test_predictions_and_scores_lie_beside_the_adapter(recipe: MakeRecipe, place: Path) -> None:
    settings = recipe("out", steps=2)
    result = run_recipe(settings)
    assert {path.name for path in (place / "out").iterdir()} == {*ADAPTER, *FILES}
    scores = json.loads((place / "out" / "scores.json").read_text())
    assert result.evaluation is not None
    assert scores["scores"] == result.evaluation.scores
    assert scores["data"] == str(place / "captions.jsonl")
    saved = json.loads((place / "out" / "settings.json").read_text())
    evaluation = score_rows(Answerer.load(place / "out"), read_manifest(place / "captions.jsonl"))
    write_evaluation(place / "again", evaluation, Answerer.load(place / "out"), str(place / "out"), "captions", [])
    again = json.loads((place / "again" / "settings.json").read_text())
    assert saved["adapter"] == again["adapter"]
    assert saved["seed"] == again["seed"] == 0
    assert (place / "again" / "predictions.jsonl").read_bytes() == (place / "out" / "predictions.jsonl").read_bytes()
    (file,) = saved["data"]["files"]
    assert file["path"] == str(place / "captions.jsonl")
    assert len(file["sha256"]) == 64
    run_recipe(settings)
    run_recipe(
        recipe("out", steps=2).model_copy(update={"data": settings.data.model_copy(update={"validation": None})})
    )
    assert {path.name for path in (place / "out").iterdir()} == ADAPTER  # what was scored is not there any more
