"""SpecAugment (Park et al. 2019) for training: a band of a spectrogram's channels and a stretch of its time, silenced.

One of each, as AST was trained: up to 24 of 128 channels and 96 of 1024 frames, and as large a share of any other size.
Width and place are drawn at random. Time is not warped.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from torch import Tensor

_CHANNELS, _TIME = 24 / 128, 96 / 1024
"""Largest share that is silenced."""


@dataclass(frozen=True)
class MaskedSound:
    """A sound whose spectrogram is to be masked."""

    samples: np.ndarray
    """(N,) float32."""
    seed: str
    """What the masks are drawn from: the same seed masks the same."""


def masked(spectrogram: Tensor, rng: random.Random, silence: float) -> Tensor:
    """A spectrogram with a band and a stretch of `silence` in it.

    Args:
        spectrogram: (T, mel); is left as it is.
        rng: draws the masks.
        silence: the value that stands for no sound.

    Returns:
        (T, mel).
    """
    frames, channels = spectrogram.shape
    silenced = spectrogram.clone()
    first, last = _random_span(rng, channels, _CHANNELS)
    silenced[:, first:last] = silence
    first, last = _random_span(rng, frames, _TIME)
    silenced[first:last] = silence
    return silenced


def _random_span(rng: random.Random, size: int, share: float) -> tuple[int, int]:
    """From where to where, at any place and of any width up to the share of `size`."""
    width = rng.random() * share * size
    first = int(rng.random() * (size - width))
    return first, first + int(width)
