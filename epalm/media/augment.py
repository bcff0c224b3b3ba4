"""Other views of a picture, for training alone: a random part of it, mirrored or altered at random.

Random resized crop, horizontal flip and RandAugment (Cubuk et al. 2020) with the operations that leave colours what
they are. A mirrored picture answers questions about left and right wrongly, and a part of it counts what is in the
part: what suits the data is for its owner to say, and by default pictures stay as they are.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Literal

from PIL import Image, ImageEnhance, ImageOps

Augment = Literal["none", "crop", "flip", "strong"]

_AREA = (0.5, 1.0)  # of the picture, that a crop keeps
_ASPECT = (3 / 4, 4 / 3)
_OPERATIONS = 2
_STRENGTH = 0.7  # RandAugment's 7 of 10
_GREY = (128, 128, 128)


def augmented(picture: Image.Image, rng: random.Random, augment: Augment) -> Image.Image:
    """Another view of a picture of mode RGB.

    Args:
        picture: is left as it is.
        rng: draws the view.
        augment: `none`: the picture itself; `crop`: a part of 50 to 100 % of its area, of an aspect between 3:4 and
            4:3, made square (bicubic); `flip`: and mirrored, every other time; `strong`: and two operations of
            RandAugment at strength 7 of 10.
    """
    if augment == "none":
        return picture
    view = _part(picture, rng)
    if augment != "crop" and rng.random() < 0.5:
        view = ImageOps.mirror(view)
    if augment == "strong":
        for operation in rng.choices(_ALTERATIONS, k=_OPERATIONS):
            view = operation(view, rng.choice((-1, 1)))
    return view


def _part(picture: Image.Image, rng: random.Random) -> Image.Image:
    """A part of random size, aspect and place, as a square of as many pixels."""
    width, height = picture.size
    for _ in range(10):
        area = width * height * rng.uniform(*_AREA)
        aspect = math.exp(rng.uniform(*map(math.log, _ASPECT)))
        across, down = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < across <= width and 0 < down <= height:
            break
    else:  # no such part fits into a picture as long as this: its middle, as near to the aspect as it can be
        across = min(width, max(1, round(height * _ASPECT[1])))
        down = min(height, max(1, round(width / _ASPECT[0])))
    left, top = rng.randint(0, width - across), rng.randint(0, height - down)
    side = max(1, round(math.sqrt(across * down)))
    box = (left, top, left + across, top + down)
    return picture.resize((side, side), Image.Resampling.BICUBIC, box=box)


def _moved(picture: Image.Image, *matrix: float) -> Image.Image:
    """Where each pixel of the result comes from: (a x + b y + c, d x + e y + f)."""
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=_GREY)


_SHEAR, _SHIFT, _TURN = 0.3 * _STRENGTH, 10 / 224 * _STRENGTH, 30 * _STRENGTH  # a share, of the side, degrees
_BRIGHTER = 0.1 + 1.8 * _STRENGTH
_ALTERATIONS: tuple[Callable[[Image.Image, int], Image.Image], ...] = (
    lambda view, sign: view,
    lambda view, sign: ImageOps.autocontrast(view),
    lambda view, sign: ImageOps.equalize(view),
    lambda view, sign: ImageEnhance.Brightness(view).enhance(_BRIGHTER),
    lambda view, sign: ImageEnhance.Sharpness(view).enhance(_BRIGHTER),
    lambda view, sign: _moved(view, 1, sign * _SHEAR, 0, 0, 1, 0),
    lambda view, sign: _moved(view, 1, 0, 0, sign * _SHEAR, 1, 0),
    lambda view, sign: _moved(view, 1, 0, sign * _SHIFT * view.width, 0, 1, 0),
    lambda view, sign: _moved(view, 1, 0, 0, 0, 1, sign * _SHIFT * view.height),
    lambda view, sign: view.rotate(sign * _TURN, Image.Resampling.BICUBIC, fillcolor=_GREY),
)
