"""Which features a model is given, by what it reads: every token, or one feature a level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from epalm.data.store.importing import import_features
from epalm.encoders import TokenFeatures
from epalm.errors import DataError
from epalm.evaluation.perceiving import perceived_files
from epalm.recipe import Recipe, build_recipe
from epalm.training.feature_building import build_features
from epalm.training.run import load_model

TOKENS = {"adapter": {"preset": "deepstack", "levels": 2}}
SUMS = {"adapter": {"preset": "epalm_pt", "levels": 2, "start": 0, "end": 2}}


def recipe_of(backbones: Path, adapter: dict[str, Any], **settings: Any) -> Recipe:
    values = tiny.recipe_values(backbones) | adapter
    if "features" in settings:
        del values["model"]["encoders"]
        settings["features.image"] = settings.pop("features")
    return build_recipe(values, {f"data.{name}": value for name, value in settings.items()})


def rows() -> list[dict[str, Path]]:
    return [{"image": Path(f"pictures/{name}.png")} for name in tiny.COLOURS]


def test_a_model_is_given_what_it_reads_from_files_stores_and_ready_stores(place: Path, backbones: Path) -> None:
    settings = {"train": "questions.jsonl", "store": "store"}
    summing, reading = (recipe_of(backbones, adapter, **settings) for adapter in (SUMS, TOKENS))
    (sums,), (every,) = build_features(summing).stores, build_features(reading).stores
    assert (sums.description.shape, every.description.shape) == ((2, 16), (2, 5, 16))
    assert (every.description.special_tokens, every.description.grid) == (1, (2, 2))
    assert "patches    2 x 2" in every.as_text()
    means = perceived_files(load_model(summing), summing.data, place=None).of(rows())["image"]
    assert isinstance(means, torch.Tensor)
    ready = recipe_of(backbones, TOKENS, features=every.folder)
    for recipe in (reading, recipe_of(backbones, TOKENS), ready):
        model = load_model(recipe)
        given = perceived_files(model, recipe.data, place=None).of(rows())["image"]
        assert isinstance(given, TokenFeatures)
        assert given.mask.all()
        torch.testing.assert_close(given.values[:, :, 0], means)  # [CLS]
        shape = model.perception.mechanism.shapes["image"]
        assert (shape.tokens, shape.special_tokens, shape.grid) == (5, 1, (2, 2))
    wrong = recipe_of(backbones, TOKENS, features=sums.folder)
    with pytest.raises(DataError, match=r"features of shape \(K, E\) = \(2, 16\), and the adapter reads every token"):
        perceived_files(model, wrong.data, place=None)


def test_ready_tokens_of_more_levels_give_their_deepest(place: Path, backbones: Path) -> None:
    features = np.random.default_rng(0).normal(size=(4, 3, 7, 5)).astype(np.float32)
    np.savez("mine.npz", ids=[str(row["image"]) for row in rows()], features=features)
    import_features(Path("mine.npz"), Path("mine"))
    recipe = recipe_of(backbones, TOKENS, features="mine")
    given = perceived_files(load_model(recipe), recipe.data, place=None).of(rows())["image"]
    assert torch.equal(given.values, torch.from_numpy(features[:, -2:]))
    recipe = recipe_of(backbones, SUMS, features="mine")
    with pytest.raises(DataError, match="mine: holds every token"):
        perceived_files(load_model(recipe), recipe.data, place=None)
