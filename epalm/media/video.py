"""Clips as they come -> as many upright RGB frames as asked for, spread over the whole clip.

The clip is cut into n equal intervals and one moment is taken in each: its middle in evaluation, a random one in
training. What a player shows at that moment is the frame, by the time stamps, so a variable frame rate needs no care
and a clip of fewer frames than asked for repeats them. Pixels that are not square are made so, and transparency lies on
white. Animated pictures are clips as well.

A clip that is damaged or cut short is refused where one of the moments lies in the part that is lost, and gives its
frames where none does. MPEG streams and GIFs do not say how long they are, and give what is there; nor does a
fragmented MP4, which is refused where it ends inside a fragment. A few flipped bits in a picture of VP8, VP9 or HEVC,
which carry no check, cannot be noticed by anybody.

Of a film of two hours only a clip's worth is decoded, and of most formats read. MPEG streams, Ogg and files that were
joined are read through, because only their packets tell when what is shown.
"""

from __future__ import annotations

import random
from fractions import Fraction
from os import PathLike
from typing import BinaryIO, cast

import numpy as np

from epalm.media.animation import animated_frames
from epalm.media.files import FileSource, binary, naming, refuse_what_is_no_file
from epalm.media.film import Film
from epalm.media.libav import opened
from epalm.media.timeline import read_timeline


def load_video(source: FileSource, frames: int, *, rng: random.Random | None = None) -> np.ndarray:
    """Read `frames` frames of one clip from a path or a binary file object.

    Args:
        source: a video file, or an animated picture.
        frames: how many equal intervals the clip is cut into, and frames are taken.
        rng: draws the moment in each interval (training); without it each gives its middle (evaluation).

    Returns:
        (frames, H, W, 3) uint8, RGB, turned as the file says it is to be shown. H and W are the first frame's, with
        square pixels.

    Raises:
        MediaError: one line with the file's name and why it cannot be read: missing, a directory, empty, no video, no
            video in it, damaged or cut short (and at which second, if the frames asked for lie there), too large to be
            decoded safely, or a package that is not installed.
    """

    def moments_within(length: Fraction) -> list[Fraction]:
        """Exact, lest rounding give the neighbour of a frame."""
        places = [Fraction(1, 2) if rng is None else Fraction(rng.random()) for _ in range(frames)]
        return [length * (number + place) / frames for number, place in enumerate(places)]

    with naming(source):
        refuse_what_is_no_file(source, "a video")
        with binary(source) as window:
            file = source if isinstance(source, (str, PathLike)) else cast("BinaryIO", window)
            animation = animated_frames(window.part(0), moments_within)
            if animation is not None:
                return animation
            timeline = read_timeline(file, window.part(0))
            moments = [timeline.start + moment for moment in moments_within(timeline.end - timeline.start)]
            with opened(file, "a video", "video") as container:
                return Film(container, timeline).pictures(moments)
