"""The channels of a recording -> one.

Of one channel, of two, and of channels whose places are not known, the mean. Of surround sound the weights of ITU-R
BS.775, scaled to a sum of one: left and right 1, the centre sqrt(2), each surround sqrt(1/2), and the channel of
low-frequency effects (LFE) 0.

Channels in opposite phase, as of a cable wired wrongly, would mix to silence. Where the mix of a whole recording has
less than a tenth of the energy that it would have if the channels had nothing in common, the loudest of them is taken
instead. Ordinary stereo is far from it, however wide it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from epalm.errors import MediaError

_SURROUND = 0.5**0.5
_WEIGHTS = {"FL": 1.0, "FR": 1.0, "FC": 2**0.5, "FLC": 1.0, "FRC": 1.0, "BC": 1.0, "LFE": 0.0, "LFE2": 0.0}
"""Of the places that channels have, as FFmpeg names them; of all others `_SURROUND`."""
_CANCELLED = 0.1
_ROUNDING = 1e-3  # of the energy of what is constant, that much may be left of it by rounding
_LARGE = 1 << 16  # frames of a block to which small ones are joined


class Block(NamedTuple):
    """A piece of a recording."""

    rate: int
    """Samples a second."""
    samples: np.ndarray
    """(frames, channels) float32."""
    places: tuple[str, ...] = ()
    """Of the channels, such as FL and LFE; empty where they are not known."""
    recording: int = 0
    """Its number in the file."""

    @property
    def kind(self) -> tuple[int, int, int, tuple[str, ...]]:
        """What blocks of one run have in common."""
        return self.recording, self.rate, self.samples.shape[1], self.places


def joined(blocks: Iterable[Block]) -> Iterator[Block]:
    """Consecutive small blocks of one kind -> larger ones."""
    pieces: list[Block] = []
    frames = 0
    for block in blocks:
        if pieces and (block.kind != pieces[0].kind or frames >= _LARGE):
            yield _concatenated(pieces)
            pieces, frames = [], 0
        pieces.append(block)
        frames += len(block.samples)
    if pieces:
        yield _concatenated(pieces)


def _concatenated(pieces: list[Block]) -> Block:
    return pieces[0]._replace(samples=np.concatenate([piece.samples.T for piece in pieces], axis=1).T)


class Mixdown:
    """Mixes blocks down, and finds out which runs of them cancel in the mix.

    A run is what follows one another in one recording with the same rate and channels.

    Args:
        chosen: number of a run -> the one channel of it that is taken.
    """

    def __init__(self, chosen: dict[int, int] | None = None) -> None:
        self._chosen = chosen or {}
        self._runs: list[_Run] = []

    def mono(self, blocks: Iterable[Block]) -> Iterator[tuple[int, np.ndarray]]:
        """Blocks -> the rate and (frames,) float32 of each.

        Raises:
            MediaError: samples are not numbers; the second is named.
        """
        kind, seconds = None, 0.0
        for block in blocks:
            if kind != (kind := block.kind):
                self._runs.append(_Run(_weights(block.places, block.samples.shape[1])))
            run, channel = self._runs[-1], self._chosen.get(len(self._runs) - 1)
            mixed = run.mix(block.samples) if channel is None else block.samples[:, channel].copy()
            finite = np.isfinite(mixed)
            if not finite.all():
                second = seconds + int(np.argmin(finite)) / block.rate
                raise MediaError(f"holds samples that are not numbers (NaN or infinite), the first at {second:.2f} s")
            run.add(block.samples)
            seconds += len(mixed) / block.rate
            yield block.rate, mixed

    def cancelled(self) -> dict[int, int]:
        """Number of each run that the mix loses -> its loudest channel."""
        return {number: run.loudest() for number, run in enumerate(self._runs) if run.is_cancelled()}


class _Run:
    def __init__(self, weights: np.ndarray) -> None:
        self._weights = weights  # (channels,), with a sum of one
        self._is_mean = bool((weights == weights[0]).all())
        self._frames = 0
        self._sum = np.zeros(len(weights))
        self._products = np.zeros((len(weights), len(weights)))  # of each two channels

    def mix(self, samples: np.ndarray) -> np.ndarray:
        """(frames, channels) -> (frames,) float32."""
        with np.errstate(all="ignore"):  # what is not finite is refused by the caller
            if samples.shape[1] == 2:
                return (samples[:, 0] + samples[:, 1]) / np.float32(2)  # the mean to the last bit, and much faster
            if self._is_mean:
                return samples.mean(axis=1, dtype=np.float32)
            mixed = np.zeros(len(samples), np.float32)
            for channel, weight in enumerate(self._weights):  # in an order that is the same on every machine
                mixed += np.float32(weight) * samples[:, channel]
            return mixed

    def add(self, samples: np.ndarray) -> None:
        """Take into account what was mixed."""
        if len(self._weights) > 1:
            with np.errstate(all="ignore"):
                self._frames += len(samples)
                self._sum += np.ones(len(samples), np.float32) @ samples
                self._products += samples.T @ samples

    def is_cancelled(self) -> bool:
        covariance = self._covariance()
        mixed = self._weights @ covariance @ self._weights
        apart = self._weights**2 @ covariance.diagonal()
        is_rounding = apart * self._frames <= _ROUNDING * (self._weights**2 @ self._products.diagonal())
        return bool(mixed < _CANCELLED * apart and not is_rounding)

    def loudest(self) -> int:
        """Of the channels that count; of several as loud to a hundredth, the first."""
        energy = self._covariance().diagonal() * (self._weights > 0)
        return int(np.argmax(energy >= 0.99 * energy.max()))

    def _covariance(self) -> np.ndarray:
        """(channels, channels): without what is constant, which nobody hears."""
        mean = self._sum / max(1, self._frames)
        return self._products / max(1, self._frames) - np.outer(mean, mean)


def _weights(places: tuple[str, ...], channels: int) -> np.ndarray:
    """(channels,)."""
    weights = np.array([_WEIGHTS.get(place, _SURROUND) for place in places])
    if len(places) != channels or channels < 3 or not weights.any():
        weights = np.ones(channels)
    return weights / weights.sum()
