"""Dropout on what the encoders give, in training alone: a connector learns to do without any one element of it.

A linear projection E -> D of a few hundred files can learn them by heart; elements that are missing now and then keep
it from relying on accidents of single files.

Shapes: B batch, K levels, E encoder width.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from epalm.recipe import TrainingSettings


def drop_features(
    features: Mapping[str, Tensor], places: Sequence[int], step: int, settings: TrainingSettings
) -> dict[str, Tensor]:
    """Set a share of the elements to zero, and divide the others by what is left of them.

    What is dropped of a row is drawn from the seed, the step and its place in the batch, so it does not depend on which
    process takes the row, nor on how a batch is divided.

    Args:
        features: (B, K, E) by modality.
        places: of the rows in the whole batch, B of them.
        step: counts from 0.
        settings: `feature_dropout` and `seed`.
    """
    rate = settings.feature_dropout
    generator = torch.Generator()
    dropped = {}
    for modality, tensor in sorted(features.items()):
        kept = []
        for place in places:
            generator.manual_seed(random.Random(f"{modality} {settings.seed} {step} {place}").getrandbits(63))
            kept.append(torch.rand(tensor.shape[1:], generator=generator) >= rate)
        dropped[modality] = tensor * torch.stack(kept).to(tensor) / (1 - rate)
    return dropped
