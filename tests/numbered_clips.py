"""Clips whose frames say which they are, written by PyAV."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from epalm.media import load_video

av = pytest.importorskip("av", reason="PyAV is not installed")

BITS, SIDE = 12, 16  # a frame's number is written into it, a block for each bit


def numbered(number: int) -> np.ndarray:
    """A frame in which its own number is written: (2 SIDE, BITS SIDE / 2, 3)."""
    bits = np.array([number >> bit & 1 for bit in range(BITS)], np.uint8).reshape(2, BITS // 2)
    return np.repeat((bits * 255).repeat(SIDE, 0).repeat(SIDE, 1)[..., None], 3, axis=2)


def number_in(frame: np.ndarray) -> int:
    blocks = frame[: 2 * SIDE].mean(axis=2).reshape(2, SIDE, BITS // 2, SIDE).mean(axis=(1, 3)).ravel()
    assert ((blocks < 60) | (blocks > 195)).all(), "not one frame but a mixture"
    return sum(1 << bit for bit in range(BITS) if blocks[bit] > 128)


def write(path: Path, pictures, *, rate=25, codec="libx264", pix_fmt="yuv420p", stamps=None, options=None, head=None):
    """Encode (H, W, 3) pictures; `stamps` are their times in thousandths of a second, if `rate` is not to set them."""
    with av.open(str(path), "w", options=head or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pix_fmt)
            if index == 0:
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, pix_fmt
                stream.codec_context.time_base = Fraction(1, 1000 if stamps else rate)
            frame.pts = stamps[index] if stamps else index
            frame.time_base = stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def numbers(source, frames: int, **kwargs) -> list[int]:
    return [number_in(frame) for frame in load_video(source, frames, **kwargs)]
