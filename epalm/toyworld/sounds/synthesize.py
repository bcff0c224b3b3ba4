"""Sounds of the toy world as samples: a voice for every shape, glides for its motions, and a bed behind them.

Everything that a sound does not say is random: when its calls come, how long they are, at which pitch and how wide
they glide, how loud exactly. Samples lie on the 16-bit grid, so that a sound is the same in memory and read from its
file.
"""

from __future__ import annotations

import random
import wave
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from epalm.toyworld.sounds.world import Event, Sound

RATE = 16_000
SAMPLES = 41_200  # 256 frames of 25 ms, one every 10 ms: what AST's filter bank cuts out of them
SECONDS = SAMPLES / RATE
LEVELS = {"loud": 0.12, "quiet": 0.03}
"""Root mean square of a call, 12 dB apart; 1.5 dB to either side are at random."""
_PITCHES = (400.0, 800.0)  # Hz in the middle of a call: the same octave for everything, so that height tells nothing
_GLIDES = {"rising": 1, "falling": -1, "steady": 0}
_WIDTHS = (8.0, 13.0)  # semitones from the beginning of a call to its end
_CALLS, _GAPS = (0.18, 0.34), (0.08, 0.16)  # seconds
_FADE = 0.015  # seconds in which a call comes and goes
_EDGE = 0.03  # seconds without a call at the ends of a sound and of its halves
_BED_LEVELS = (0.002, 0.006)  # root mean square: 14 dB and more below a quiet call


class Call(NamedTuple):
    """Where one call of an event lies: its samples are `start` to `stop`."""

    event: int
    start: int
    stop: int


def synthesize(sound: Sound, rng: random.Random) -> np.ndarray:
    """The sound as `SAMPLES` samples at `RATE`, one channel of float32 within [-1, 1]; the same seed gives the same."""
    return synthesize_with_calls(sound, rng)[0]


def synthesize_with_calls(sound: Sound, rng: random.Random) -> tuple[np.ndarray, list[Call]]:
    """The samples, and where the calls lie in them, in the order of time."""
    noise = np.random.Generator(np.random.SFC64(rng.getrandbits(64)))
    samples = _BEDS[sound.bed](noise)
    samples *= rng.uniform(*_BED_LEVELS)
    calls = []
    for number, event in enumerate(sound.events):
        share = SECONDS / len(sound.events)
        spans = _spans(event.count, share * number + _EDGE, share * (number + 1) - _EDGE, rng)
        pitch, width = rng.uniform(0, 1), rng.uniform(*_WIDTHS)
        level = LEVELS[event.loudness] * 10 ** (rng.uniform(-1.5, 1.5) / 20)
        for start, stop in spans:
            calls.append(Call(number, start, stop))
            samples[start:stop] += level * _call(event, stop - start, pitch, width, noise)
    steps = np.clip(np.rint(samples * 32_768), -32_768, 32_767)
    return (steps / 32_768).astype(np.float32), calls


def save_sound(samples: np.ndarray, path: Path) -> None:
    """Write samples of `synthesize` as a 16-bit wav of one channel, from which they are read as they were."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32_768).astype("<i2").tobytes())


def _spans(count: int, earliest: float, latest: float, rng: random.Random) -> list[tuple[int, int]]:
    """Where `count` calls of one length lie, one after the other, between two points in time (seconds)."""
    gaps, room = count - 1, latest - earliest
    length = rng.uniform(_CALLS[0], min(_CALLS[1], (room - gaps * _GAPS[0]) / count))
    gap = rng.uniform(_GAPS[0], min(_GAPS[1], (room - count * length) / gaps)) if gaps else 0.0
    start = earliest + rng.uniform(0, room - count * length - gaps * gap)
    starts = [start + number * (length + gap) for number in range(count)]
    return [(round(begin * RATE), round((begin + length) * RATE)) for begin in starts]


def _call(event: Event, length: int, pitch: float, width: float, noise: np.random.Generator) -> np.ndarray:
    """One call of root mean square 1; `pitch` within the octave from 0 to 1, `width` in semitones."""
    time = np.arange(length, dtype=np.float32) / np.float32(length)  # 0 to 1
    semitones = width * _GLIDES[event.motion] * (time - 0.5)
    if event.shape == "triangle":  # vibrato
        semitones += 0.8 * np.sin(2 * np.pi * 9 * length / RATE * time)
    hertz = _PITCHES[0] * 2 ** (pitch * np.log2(_PITCHES[1] / _PITCHES[0])) * np.exp2(semitones / 12)
    phase = (np.cumsum(hertz, dtype=np.float64) * (2 * np.pi / RATE)).astype(np.float32)
    voiced = _VOICES[event.shape](phase, time, noise)
    fade = np.minimum(1, np.minimum(time, 1 - time) * (length / RATE / _FADE))
    voiced *= fade
    return voiced / np.sqrt(np.mean(voiced**2))


# --- voices: phase of the pitch (N,) in radians, time (N,) from 0 to 1, noise -> (N,) at any level ------------------


def _sine(phase: np.ndarray, time: np.ndarray, noise: np.random.Generator) -> np.ndarray:
    return np.sin(phase)


def _square(phase: np.ndarray, time: np.ndarray, noise: np.random.Generator) -> np.ndarray:
    return np.tanh(6 * np.sin(phase))  # softened: less of it folds back from beyond 8 kHz


def _triangle(phase: np.ndarray, time: np.ndarray, noise: np.random.Generator) -> np.ndarray:
    return np.arcsin(0.999 * np.sin(phase))


def _pulse(phase: np.ndarray, time: np.ndarray, noise: np.random.Generator) -> np.ndarray:
    """Narrow pulses, all harmonics alike, in a fast tremolo."""
    tremolo = 0.65 + 0.35 * np.cos(2 * np.pi * 7 * time)
    return (np.exp(12 * (np.cos(phase) - 1)) - 0.116) * tremolo  # less its mean


def _bell(phase: np.ndarray, time: np.ndarray, noise: np.random.Generator) -> np.ndarray:
    """Partials out of tune with each other that die away, the higher the faster."""
    partials = ((1, 1.0, 2), (2.76, 0.7, 3), (5.4, 0.5, 4))
    return sum((size * np.sin(ratio * phase) * np.exp(-fall * time) for ratio, size, fall in partials), 0 * phase)


def _ring(phase: np.ndarray, time: np.ndarray, noise: np.random.Generator) -> np.ndarray:
    """Frequency modulation, by 1.41 of the pitch: a cluster of partials out of tune, none of which dies away."""
    return np.sin(2 * phase + 1.8 * np.sin(1.41 * phase))


def _crackle(phase: np.ndarray, time: np.ndarray, noise: np.random.Generator) -> np.ndarray:
    """A band of noise two octaves above the pitch."""
    points = len(time) // 40 + 2  # slow noise, up to 200 Hz, that widens a carrier
    slow = np.interp(np.arange(len(time)) / 40, np.arange(points), noise.standard_normal(points))
    return (slow * np.sin(4 * phase)).astype(np.float32)


def _thump(phase: np.ndarray, time: np.ndarray, noise: np.random.Generator) -> np.ndarray:
    """A low double beat, an octave below the pitch, that never falls silent within a call."""
    beat = np.exp(-2.2 * (2 * time % 1))
    return (np.sin(phase / 2) + 0.4 * np.sin(phase)) * beat


_VOICES: dict[str, Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]] = {
    "circle": _sine,
    "square": _square,
    "triangle": _triangle,
    "rectangle": _pulse,
    "star": _bell,
    "cross": _crackle,
    "ring": _ring,
    "heart": _thump,
}


# --- beds: noise -> (SAMPLES,) of root mean square 1, or silence ----------------------------------------------------


def _silence(noise: np.random.Generator) -> np.ndarray:
    return np.zeros(SAMPLES, dtype=np.float32)


def _hiss(noise: np.random.Generator) -> np.ndarray:
    return noise.standard_normal(SAMPLES, dtype=np.float32)


def _hum(noise: np.random.Generator) -> np.ndarray:
    """A mains hum at 50 to 60 Hz, with its harmonics."""
    phase = np.arange(SAMPLES, dtype=np.float32) * np.float32(2 * np.pi * noise.uniform(50, 60) / RATE)
    hum = sum((np.sin(k * phase) / k for k in (1, 2, 3, 4)), 0 * phase)
    return hum / np.sqrt(np.mean(hum**2))


def _rain(noise: np.random.Generator) -> np.ndarray:
    """Droplets at irregular times: short bursts of noise, some louder than others."""
    drops, length = int(noise.integers(60, 120)), 120
    burst = noise.standard_normal((drops, length), dtype=np.float32) * np.exp(-np.arange(length) / 30)
    burst *= noise.exponential(size=(drops, 1)) + 0.3
    rain = np.zeros(SAMPLES, dtype=np.float32)
    for start, drop in zip(noise.integers(0, SAMPLES - length, drops), burst, strict=True):
        rain[start : start + length] += drop
    return rain / np.sqrt(np.mean(rain**2))


_BEDS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "silence": _silence,
    "hiss": _hiss,
    "hum": _hum,
    "rain": _rain,
}
