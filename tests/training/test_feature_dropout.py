"""Dropout on features: which elements are missing depends on seed, step and place alone."""

from __future__ import annotations

import pytest
import torch

from epalm.recipe import TrainingSettings
from epalm.training.feature_dropout import drop_features

SETTINGS = TrainingSettings(feature_dropout=0.25)


def test_a_share_is_missing_and_the_mean_stays() -> None:
    features = {"image": torch.ones(64, 6, 100)}
    dropped = drop_features(features, range(64), 3, SETTINGS)["image"]
    assert dropped.unique().tolist() == [0, pytest.approx(4 / 3)]
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert dropped.mean().item() == pytest.approx(1, abs=0.015)
    assert features["image"].eq(1).all()


def test_every_visit_has_its_own_and_parts_of_a_batch_have_those_of_the_whole() -> None:
    features = {"image": torch.ones(4, 2, 50), "audio": torch.ones(4, 2, 50)}
    whole = drop_features(features, range(4), 0, SETTINGS)
    part = drop_features({name: tensor[2:] for name, tensor in features.items()}, [2, 3], 0, SETTINGS)
    assert all(torch.equal(part[name], whole[name][2:]) for name in features)
    masks = [*whole["image"], *whole["audio"], *drop_features(features, range(4), 1, SETTINGS)["image"]]
    masks += drop_features(features, range(4), 0, SETTINGS.model_copy(update={"seed": 1}))["image"]
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == len(masks)
