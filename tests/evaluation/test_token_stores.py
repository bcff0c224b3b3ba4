"""Which features a model is given, by what it reads: every token, or one feature a level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from epalm.data.store.importing import import_features
from epalm.encoders import TokenFeatures
from epalm.errors import DataError
from epalm.evaluation.perceiving import perceived_files
from epalm.models import PerceptualLM
from epalm.recipe import build_recipe
from epalm.training.feature_building import build_features
from epalm.training.run import load_model


def test_a_model_that_reads_every_token_is_given_them(
    place: Path, backbones: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = build_recipe(tiny.recipe_values(backbones), {"data.train": "questions.jsonl", "data.store": "store"})
    rows = [{"image": Path(f"pictures/{name}.png")} for name in tiny.COLOURS]
    (sums,) = build_features(recipe).stores
    model = load_model(recipe)
    means = perceived_files(model, recipe.data, place=None).of(rows)["image"]
    monkeypatch.setattr(PerceptualLM, "reads_tokens", True, raising=False)
    (every,) = build_features(recipe).stores
    assert (sums.description.shape, every.description.shape) == ((2, 16), (2, 5, 16))
    assert (every.description.special_tokens, every.description.grid) == (1, (2, 2))
    ready = {"data.features.image": every.folder, "data.store": False}
    values = tiny.recipe_values(backbones)
    del values["model"]["encoders"]
    of_store = build_recipe(values, ready)
    blind = load_model(of_store)
    for given in (
        perceived_files(model, recipe.data, place=None).of(rows)["image"],
        perceived_files(model, build_recipe(tiny.recipe_values(backbones), {}).data, place=None).of(rows)["image"],
        perceived_files(blind, of_store.data, place=None).of(rows)["image"],
    ):
        assert isinstance(given, TokenFeatures)
        assert given.mask.all()
        assert isinstance(means, torch.Tensor)
        torch.testing.assert_close(given.values[:, :, 0], means)  # [CLS]
    with pytest.raises(DataError, match=r"features of shape \(K, E\) = \(2, 16\), and the adapter reads every token"):
        perceived_files(blind, of_store.data.model_copy(update={"features": {"image": sums.folder}}), place=None)


def test_ready_tokens_of_more_levels_give_their_deepest(
    place: Path, backbones: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = np.random.default_rng(0).normal(size=(4, 3, 7, 5)).astype(np.float32)
    np.savez("mine.npz", ids=[f"pictures/{name}.png" for name in tiny.COLOURS], features=features)
    import_features(Path("mine.npz"), Path("mine"))
    values = tiny.recipe_values(backbones)
    del values["model"]["encoders"]
    recipe = build_recipe(values, {"data.features.image": "mine", "adapter.levels": 2})
    rows = [{"image": Path(f"pictures/{name}.png")} for name in tiny.COLOURS]
    model = load_model(recipe)
    with pytest.raises(DataError, match="mine: holds every token"):
        perceived_files(model, recipe.data, place=None)
    monkeypatch.setattr(PerceptualLM, "reads_tokens", True, raising=False)
    given = perceived_files(model, recipe.data, place=None).of(rows)["image"]
    assert torch.equal(given.values, torch.from_numpy(features[:, -2:]))
