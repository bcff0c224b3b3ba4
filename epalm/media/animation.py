"""Animated pictures of which FFmpeg does not show all: WebP and AVIF, and PNG, whose last frame it gives no time.

GIFs are not among them: FFmpeg reads them as it does films.
"""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Callable
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from PIL import Image

from epalm.errors import MediaError
from epalm.media.files import FileWindow, naming, one_line
from epalm.media.image import upright_rgb
from epalm.media.video_track import MOST_PIXELS

_FORMATS = ("WEBP", "PNG", "AVIF")
_BRANDS = (b"avif", b"avis", b"mif1", b"msf1")  # of AVIF
_MOST_PIXELS_OF_ALL = (
    1 << 36
)  # all pictures are decoded to learn when each is shown, and a few bytes may be a large one
_SHORTEST, _USUAL = 10, 100  # milliseconds; whatever asks for no longer than the one is shown for the other by browsers


def animated_frames(file: FileWindow, moments_within: Callable[[Fraction], list[Fraction]]) -> np.ndarray | None:
    """What is on screen at moments of an animated picture; None where `file` is none of a kind that is read here.

    Args:
        file: its content.
        moments_within: a length in seconds -> moments, ascending.

    Returns:
        (moments, H, W, 3) uint8, RGB, upright, transparency on white.

    Raises:
        MediaError: it is too large; whatever else Pillow meets in damage goes on as it is.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata and of large pictures, which are refused below
        if not _may_be_animated(file):
            return None
        try:
            image: Any = Image.open(cast("BinaryIO", file))
        except Image.UnidentifiedImageError:  # a Pillow without the codec
            return None
        except Image.DecompressionBombError as error:
            raise MediaError(f"too large to be decoded safely: {one_line(error)}") from None
        if image.format not in _FORMATS or getattr(image, "n_frames", 1) < 2:
            return None
        pixels = image.width * image.height
        if pixels > MOST_PIXELS or pixels * image.n_frames > _MOST_PIXELS_OF_ALL:
            size = f"{image.width} x {image.height}, {image.n_frames} pictures"
            raise MediaError(f"too large to be decoded safely: {size}")
        numbers = range(int(getattr(image, "default_image", False)), image.n_frames)  # PNG: shown by old viewers alone
        ends = list(accumulate(_duration(image, number) for number in numbers))
        pictures: dict[int, np.ndarray] = {}
        shown = [numbers[min(bisect_right(ends, moment), len(ends) - 1)] for moment in moments_within(ends[-1])]
        for number in shown:
            if number not in pictures:
                image.seek(number)
                pictures[number] = np.asarray(upright_rgb(image))
        return np.stack([pictures[number] for number in shown])


def is_animated(path: str | Path) -> bool:
    """Whether a player shows a picture as a film; of what is no picture, or not there, False."""
    try:
        with naming(path), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                return image.format in (*_FORMATS, "GIF") and getattr(image, "n_frames", 1) > 1
    except MediaError:
        return False


def _may_be_animated(file: FileWindow) -> bool:
    head = file.at(0, 12)
    return head[:8] == b"\x89PNG\r\n\x1a\n" or head[8:] == b"WEBP" or (head[4:8] == b"ftyp" and head[8:] in _BRANDS)


def _duration(image: Any, number: int) -> Fraction:
    """Seconds for which a frame is shown."""
    image.seek(number)
    image.load()
    milliseconds = image.info.get("duration", 0)
    return Fraction(milliseconds if milliseconds > _SHORTEST else _USUAL) / 1000
