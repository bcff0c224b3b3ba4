"""Small sound files of one pitch each, and what is heard in them."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from epalm.errors import MediaError
from epalm.media import load_audio

RATE = 16_000
"""At which all of them are read."""


def sine(rate: int, hertz: float, seconds: float = 1.0, height: float = 0.5) -> np.ndarray:
    """(seconds * rate,)."""
    return height * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def encoded(path: Path, *tracks: np.ndarray, rate: int, codec: str, layout: str = "mono", **options: str) -> Path:
    """A file with a track for each (channels, N), made by PyAV; the suffix says of which format."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w", options=options) as container:
        streams = [container.add_stream(codec, rate=rate, layout=layout) for _ in tracks]
        for stream, samples in zip(streams, tracks, strict=True):
            frame = av.AudioFrame.from_ndarray(np.atleast_2d(samples).astype(np.float32), format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            for piece in av.AudioResampler(stream.format, layout, rate).resample(frame):
                container.mux(stream.encode(piece))
            container.mux(stream.encode())
    return path


def heard(source: Path | io.BytesIO, parts: int = 1) -> list[int]:
    """The strongest pitch in each of so many equal parts of the whole sound, to 10 Hz."""
    return [_pitch(part) for part in np.array_split(load_audio(source, RATE), parts)]


def heights(path: Path, *pitches: int) -> list[float]:
    """How strong each pitch is in the whole sound: the height of its sine."""
    sound = load_audio(path, RATE)[1600:-1600]
    times = np.arange(len(sound)) / RATE
    waves = [np.exp(-2j * np.pi * pitch * times) * np.hanning(len(sound)) for pitch in pitches]
    return [float(4 * abs((sound * wave).sum()) / len(sound)) for wave in waves]


def refusal(path: Path) -> str:
    """Why a file is refused, the same for its path and for a file object with its bytes, without its name."""
    messages = []
    for source in (path, io.BytesIO(path.read_bytes())):
        with pytest.raises(MediaError) as caught:
            load_audio(source, RATE)
        messages.append(str(caught.value).split(": ", 1)[1])
    assert messages[0] == messages[1]
    assert "\n" not in messages[0]
    return messages[0]


def _pitch(sound: np.ndarray) -> int:
    inner = sound[len(sound) // 10 : -len(sound) // 10]
    spectrum = np.abs(np.fft.rfft(inner * np.hanning(len(inner)), 1 << 16))
    return round(int(spectrum.argmax()) * RATE / (1 << 16) / 10) * 10
