"""Small clips, sounds, and films with a sound track, each of one colour and one pitch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

RATE = 44_100


def save_clip(path: Path, colour: tuple[int, int, int]) -> Path:
    """A silent clip of a second and a half."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = _picture_stream(container)
        _show(container, stream, colour)
    return path


def save_sound(path: Path, pitch: int) -> Path:
    """Half a second in two channels."""
    soundfile = pytest.importorskip("soundfile")
    tone = _tone(pitch)
    soundfile.write(path, 0.4 * np.stack([tone, 0.5 * tone], axis=1), RATE)
    return path


def save_film(path: Path, colour: tuple[int, int, int], pitch: int) -> Path:
    """A clip with a sound track."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = _picture_stream(container)
        sound = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        _show(container, stream, colour)
        samples = (0.3 * _tone(pitch) * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = RATE
        container.mux([*sound.encode(frame), *sound.encode()])
    return path


def _tone(pitch: int) -> np.ndarray:
    return np.sin(2 * np.pi * pitch * np.arange(RATE // 2) / RATE)


def _picture_stream(container):
    stream = container.add_stream("mpeg4", rate=8)
    stream.width, stream.height, stream.pix_fmt = 48, 40, "yuv420p"
    return stream


def _show(container, stream, colour: tuple[int, int, int]) -> None:
    av = pytest.importorskip("av")
    picture = np.full((40, 48, 3), colour, dtype=np.uint8)
    for _ in range(12):
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
    container.mux(stream.encode())
