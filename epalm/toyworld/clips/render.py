"""Draws a clip of the toy world as frames of 60 x 60 points, and writes frames to a file."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from epalm.media.files import optional
from epalm.toyworld.clips.world import MOVES, Clip
from epalm.toyworld.pictures.render import draw_ground, fill_outline, mix_tint

SIDE = 60
_BEATS = 8  # of a clip: what blinks is hidden in every other one
_REACH = 1.22  # no point of any shape lies farther from its middle, in radii
_GAP = 1.0  # points left free between things, and before the edge
_RADIUS = 24  # of a thing as it is drawn once, to be reduced to its size in each frame
_HALF = 38  # half the side of that drawing: the shape, and room to cut a frame's points out at any offset


def draw_frames(clip: Clip, rng: random.Random, frames: int = 16) -> np.ndarray:
    """The clip as (frames, 60, 60, 3) uint8; places, exact sizes and ways, tints and the ground are at random."""
    return draw_with_owners(clip, rng, [(number + 0.5) / frames for number in range(frames)])[0]


def draw_with_owners(clip: Clip, rng: random.Random, moments: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """The clip at moments between 0 and 1, and what owns each point there.

    Returns:
        (N, 60, 60, 3) uint8 and (N, 60, 60) uint8: 0 the ground, t + 1 the clip's thing t.
    """
    ground = draw_ground(clip.ground, rng).resize((SIDE, SIDE), Image.Resampling.BOX)
    rimmed = rng.random() < 0.7
    cutouts = [_Cutout(shape, color, ground, rimmed, rng) for shape, color in clip.things]
    parts = _collide(cutouts, rng) if clip.collision else _rehearse(clip, rng)
    frames, owners = [], []
    for moment in moments:
        frame, owner = ground.copy(), Image.new("L", ground.size, 0)
        for number, (cutout, part) in enumerate(zip(cutouts, parts, strict=True), start=1):
            if _shown_at(part, moment):
                cutout.paste(frame, owner, number, _pose_at(part, moment))
        frames.append(np.asarray(frame))
        owners.append(np.asarray(owner))
    return np.stack(frames), np.stack(owners)


def save_clip(frames: np.ndarray, path: Path, rate: int = 8) -> None:
    """Write frames (N, H, W, 3) uint8, H and W even, as H.264 at `rate` a second.

    Raises:
        MediaError: PyAV is not installed.
    """
    av = optional("av", "video")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "14", "preset": "veryfast"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())


class _Cutout:
    """A thing drawn once, large, as layers of one colour each: a thin rim where it needs one, and the fill."""

    def __init__(self, shape: str, color: str, ground: Image.Image, rimmed: bool, rng: random.Random) -> None:
        tint = mix_tint(color, rng)
        mask = Image.new("L", (2 * _HALF, 2 * _HALF), 0)
        fill_outline(ImageDraw.Draw(mask), shape, _HALF, _RADIUS, rng)
        box = mask.getbbox()
        assert box is not None
        self.left, self.right = (_HALF - box[0]) / _RADIUS, (box[2] - _HALF) / _RADIUS
        """How far it reaches to either side of its middle, in radii."""
        self._layers = [(tint, mask)]
        below = ground.getpixel((SIDE // 2, SIDE // 2))
        assert isinstance(below, tuple)
        if rimmed or sum(abs(a - b) for a, b in zip(below, tint, strict=True)) < 120:
            rim = (215, 215, 215) if sum(below) < 300 else (60, 60, 60)
            self._layers = [(rim, mask), (tint, mask.filter(ImageFilter.MinFilter(3)))]

    def paste(self, frame: Image.Image, owner: Image.Image, number: int, pose: _Pose) -> None:
        """Put it into the frame, at fractions of a point too, and its number into `owner`."""
        scale = _RADIUS / pose.radius
        left, top = (math.floor(place - _REACH * pose.radius) for place in (pose.x, pose.y))
        size = math.ceil(2 * _REACH * pose.radius) + 1
        x, y = _HALF + (left - pose.x) * scale, _HALF + (top - pose.y) * scale
        cut = (x, y, x + size * scale, y + size * scale)
        for number_of_layer, (color, mask) in enumerate(self._layers):
            reduced = mask.resize((size, size), Image.Resampling.BOX, box=cut)
            frame.paste(color, (left, top), reduced)
            if number_of_layer == 0:
                owner.paste(number, (left, top), reduced.convert("1", dither=Image.Dither.NONE))


# --- who does what, and where ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pose:
    """Where a thing's middle is and how large it is, in points of the frame."""

    x: float
    y: float
    radius: float

    def towards(self, goal: _Pose, share: float) -> _Pose:
        """The pose at this share of the way to `goal`."""
        here, there = (self.x, self.y, self.radius), (goal.x, goal.y, goal.radius)
        return _Pose(*(a + share * (b - a) for a, b in zip(here, there, strict=True)))

    def apart_from(self, other: _Pose) -> bool:
        """Whether the two cannot touch."""
        return math.hypot(self.x - other.x, self.y - other.y) > _REACH * (self.radius + other.radius) + _GAP


@dataclass(frozen=True)
class _Stretch:
    """What a thing does between two moments, from pose to pose; moments go from 0 to 1 over the clip."""

    begin: float
    end: float
    start: _Pose
    goal: _Pose
    blinks: bool = False


_Part = list[_Stretch]
"""All that one thing does, in the order of time."""


def _stretch_at(part: _Part, moment: float) -> _Stretch:
    """The last stretch that has begun, or the first."""
    return next((stretch for stretch in reversed(part) if stretch.begin <= moment), part[0])


def _pose_at(part: _Part, moment: float) -> _Pose:
    stretch = _stretch_at(part, moment)
    share = (moment - stretch.begin) / (stretch.end - stretch.begin)
    return stretch.start.towards(stretch.goal, min(1.0, max(0.0, share)))


def _shown_at(part: _Part, moment: float) -> bool:
    stretch = _stretch_at(part, moment)
    return not (stretch.blinks and stretch.begin <= moment < stretch.end and int(moment * _BEATS) % 2 == 1)


def _rehearse(clip: Clip, rng: random.Random) -> list[_Part]:
    """A part for each of the clip's things, inside the frame and never touching; no collision."""
    halves = [(0.0, 0.5), (0.5, 1.0)] if len(clip.acts) == 2 else [(0.0, 1.0)]
    acts = list(zip(clip.acts, halves, strict=True))
    plans = [[(act.deed, *half) for act, half in acts if (act.shape, act.color) == thing] for thing in clip.things]
    moments = [beat / _BEATS for beat in range(_BEATS + 1)]
    while True:
        parts = [_improvise(plan, rng) for plan in plans]
        if all(
            _pose_at(parts[0], moment).apart_from(_pose_at(other, moment)) for other in parts[1:] for moment in moments
        ):
            return parts


def _improvise(plan: Sequence[tuple[str, float, float]], rng: random.Random) -> _Part:
    """A part of these deeds (name, begin, end), at a random place where all of it is inside the frame."""
    resizing = next((deed for deed, *_ in plan if deed in ("grows", "shrinks")), None)
    radius = rng.uniform(8.0, 10.5) if resizing is None else rng.uniform(6.2, 7.0)
    poses = [_Pose(0.0, 0.0, 2.0 * radius if resizing == "shrinks" else radius)]
    for deed, *_ in plan:
        poses.append(_after(deed, poses[-1], rng))
    spans = [_REACH * pose.radius + _GAP for pose in poses]
    across, down = (
        rng.uniform(
            max(span - place for span, place in zip(spans, places, strict=True)),
            SIDE - max(span + place for span, place in zip(spans, places, strict=True)),
        )
        for places in ([pose.x for pose in poses], [pose.y for pose in poses])
    )
    placed = [replace(pose, x=pose.x + across, y=pose.y + down) for pose in poses]
    return [
        _Stretch(begin, end, start, goal, deed == "blinks")
        for (deed, begin, end), start, goal in zip(plan, placed, placed[1:], strict=False)
    ]


def _after(deed: str, start: _Pose, rng: random.Random) -> _Pose:
    """The pose in which a deed leaves a thing; the longest way of the largest thing still fits into the frame."""
    if deed in MOVES:
        way = rng.uniform(22.0, 26.0)
        across = {"moves left": -way, "moves right": way}.get(deed, 0.0)
        down = {"moves up": -way, "moves down": way}.get(deed, 0.0)
        return replace(start, x=start.x + across, y=start.y + down)
    return replace(start, radius=start.radius * {"grows": 2.0, "shrinks": 0.5}.get(deed, 1.0))


def _collide(cutouts: Sequence[_Cutout], rng: random.Random) -> list[_Part]:
    """Parts of two things that come at each other, touch in the middle of the clip, and bounce back; left one first."""
    left, right = rng.uniform(7.0, 8.5), rng.uniform(7.0, 8.5)
    y, x = rng.uniform(14.0, SIDE - 14.0), SIDE / 2 + rng.uniform(-1.0, 1.0)
    touching = _Pose(x - cutouts[0].right * left, y, left), _Pose(x + cutouts[1].left * right, y, right)
    room = min(touching[0].x - _REACH * left, SIDE - touching[1].x - _REACH * right) - _GAP
    way = room * rng.uniform(0.85, 1.0)
    parts = []
    for pose, sign in zip(touching, (-1, 1), strict=True):
        away = replace(pose, x=pose.x + sign * way)
        parts.append([_Stretch(0.0, 0.5, away, pose), _Stretch(0.5, 1.0, pose, away)])
    return parts
