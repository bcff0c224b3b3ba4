"""Dropout on features: which elements are missing depends on seed, step and place alone."""

from __future__ import annotations

import pytest
import torch

from epalm.encoders import TokenFeatures
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


def test_of_every_token_the_same_is_missing_however_a_batch_is_divided_and_padded() -> None:
    items = [torch.ones(2, count, 60) for count in (9, 2, 40, 5)]
    whole = drop_features({"audio": TokenFeatures.padded(items)}, range(4), 3, SETTINGS)["audio"].single()
    assert [row.shape for row in whole] == [item.shape for item in items]
    for places in ([0, 1], [3], [2, 3]):
        part = drop_features({"audio": TokenFeatures.padded([items[i] for i in places])}, places, 3, SETTINGS)["audio"]
        assert part.values.movedim(1, 2)[~part.mask].eq(0).all()
        assert all(torch.equal(row, whole[place]) for row, place in zip(part.single(), places, strict=True))
    assert whole[2].unique().tolist() == [0, pytest.approx(4 / 3)]
    assert (whole[2] == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
