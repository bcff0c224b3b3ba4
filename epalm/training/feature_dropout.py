"""Dropout on what the encoders give, in training alone: a connector learns to do without any one element of it.

A linear projection E -> D of a few hundred files can learn them by heart; elements that are missing now and then keep
it from relying on accidents of single files.

Shapes: B batch, K levels, N tokens, E encoder width.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from epalm.encoders.token_features import BatchFeatures, make_batch, split_batch
from epalm.recipe import TrainingSettings


def drop_features(
    features: Mapping[str, BatchFeatures], places: Sequence[int], step: int, settings: TrainingSettings
) -> dict[str, BatchFeatures]:
    """Set a share of the elements to zero, and divide the others by what is left of them.

    What is dropped of a row is drawn from the seed, the step and its place in the batch, so it does not depend on which
    process takes the row, nor on how a batch is divided or padded.

    Args:
        features: (B, K, E) by modality, or every token.
        places: of the rows in the whole batch, B of them.
        step: counts from 0.
        settings: `feature_dropout` and `seed`.
    """
    dropped = {}
    for modality, given in sorted(features.items()):
        seeds = [random.Random(f"{modality} {settings.seed} {step} {place}").getrandbits(63) for place in places]
        rows = zip(split_batch(given), seeds, strict=True)
        dropped[modality] = make_batch([_dropped(row, seed, settings.feature_dropout) for row, seed in rows])
    return dropped


def _dropped(row: Tensor, seed: int, rate: float) -> Tensor:
    """One row's features, (K, E) or its tokens (K, N, E), with a share of the elements gone."""
    kept = torch.rand(row.shape, generator=torch.Generator().manual_seed(seed)) >= rate
    return row * kept.to(row) / (1 - rate)
