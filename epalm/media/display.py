"""A decoded frame as a player displays it: in its colours, on white, of the shape and the way up that its file says."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from epalm.media.files import optional
from epalm.media.video_track import MOST_PIXELS, Stream

Frame: TypeAlias = Any

_NOT_SEEN = Fraction(1, 100)  # a pixel's deviation from a square, such as that of 853 1/3 pixels stored as 854
_MOST_ASPECT = 16  # of a pixel; more of it is a damaged header
_TURNS = ((False, 1, 1), (True, 1, -1), (False, -1, -1), (True, -1, 1))  # by quarters against the clock; see `_matrix`


class Display:
    """Frames of one film -> pictures of one size.

    Args:
        track: the film.
        first: its first frame, which sets the size.
    """

    def __init__(self, track: Stream, first: Frame) -> None:
        self._to_rgb = optional("av.video.reformatter", "video").VideoReformatter()
        self._width, self._height = _square_pixels(first.width, first.height, track.sample_aspect_ratio)
        self._is_sideways = _matrix(first)[0]

    def picture(self, frame: Frame) -> np.ndarray:
        """(H, W, 3) uint8, RGB."""
        is_sideways, across, down = _matrix(frame)
        size = (self._width, self._height)
        if is_sideways != self._is_sideways:  # of some frames in another way than of the first
            size = size[::-1]
        rgb = self._reformatted(frame, size, "rgb24")
        if _may_be_clear(frame):
            rgba = self._reformatted(frame, size, "rgba")
            opacity = rgba[..., 3:].astype(np.uint16)
            if opacity.min() < 255:
                rgb = ((rgba[..., :3] * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8)
        if is_sideways:
            rgb = rgb.transpose(1, 0, 2)
        return rgb[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]

    def _reformatted(self, frame: Frame, size: tuple[int, int], layout: str) -> np.ndarray:
        return self._to_rgb.reformat(frame, *size, layout).to_ndarray()


def _square_pixels(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """The size of a picture whose pixels have that aspect once they are square; no side becomes less."""
    if not aspect or not 1 / Fraction(_MOST_ASPECT) <= aspect <= _MOST_ASPECT or abs(aspect - 1) < _NOT_SEEN:
        return width, height
    shown = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
    return shown if shown[0] * shown[1] <= MOST_PIXELS else (width, height)


def _matrix(frame: Frame) -> tuple[bool, int, int]:
    """Whether a picture lies on its side, and which way it then goes across and down; negative: the other way round."""
    try:
        side_data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # beside it is something that this PyAV has no name for: there is but the angle
        return _TURNS[round(frame.rotation / 90) % 4]
    if side_data is None:
        return _TURNS[0]
    # Where a pixel at (x, y) is shown: (a x + c y, b x + d y). Only quarter turns and mirrorings are made.
    a, b, _, c, d = np.frombuffer(bytes(side_data), np.int32)[:5].tolist()
    return (False, a, d) if abs(a) + abs(d) >= abs(b) + abs(c) else (True, c, b)


def _may_be_clear(frame: Frame) -> bool:
    return frame.format.has_palette or any(component.is_alpha for component in frame.format.components)
