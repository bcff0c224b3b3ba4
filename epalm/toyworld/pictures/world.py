"""Scenes of the toy world: what can be there, and how a scene is drawn at random.

A scene is a light or dark ground with one or two groups of one to four equal things, each group in a quarter of its own
(or, standing alone, in the middle). A group has a shape, a colour, a texture, a size and a count. Every fifth
combination of shape, colour and texture is *held out*: no training set of any part - encoder, language model or adapter
- ever holds it, and held-out scenes hold nothing else.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import product

SHAPES = ("circle", "square", "triangle", "rectangle", "star", "cross", "ring", "heart")
COLORS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "red": ((214, 33, 38), (255, 0, 0), (185, 15, 25)),
    "yellow": ((247, 217, 35), (255, 255, 0), (235, 205, 60)),
    "green": ((40, 150, 55), (0, 128, 0), (30, 240, 40)),
    "teal": ((20, 150, 150), (0, 128, 128), (35, 165, 160)),
    "blue": ((35, 75, 205), (0, 0, 255), (55, 110, 235)),
    "purple": ((125, 45, 165), (128, 0, 128), (150, 70, 200)),
    "brown": ((125, 78, 40), (165, 42, 42), (101, 67, 33)),
    "black": ((18, 18, 18), (0, 0, 0), (30, 30, 34)),
    "white": ((250, 250, 250), (255, 255, 255), (244, 246, 250)),
    "gray": ((128, 128, 128), (145, 145, 145), (112, 114, 118)),
}
"""Three shades of each colour; a thing's tint is a mixture of them."""
TEXTURES = ("plain", "striped", "dotted", "checked")
SIZES = ("small", "large")
COUNTS = (1, 2, 3, 4)
NUMBERS = ("zero", "one", "two", "three", "four")
PLACES = ("top left", "top right", "bottom left", "bottom right", "middle")
GROUNDS = ("light", "dark")

FOREIGN_SHAPES = ("hexagon", "arrow", "moon")
FOREIGN_COLORS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "orange": ((255, 150, 30), (250, 140, 0), (255, 165, 60)),
    "pink": ((255, 150, 190), (255, 182, 193), (250, 130, 180)),
    "sky": ((130, 205, 255), (150, 215, 250), (110, 190, 240)),
    "olive": ((125, 125, 30), (110, 115, 20), (140, 140, 50)),
}
FOREIGN_TEXTURES = ("crossed", "ringed")
"""What no scene holds and no text names. Only the image encoder meets such things, one strange attribute at a time
beside any of the others: so it cannot take for impossible what merely never occurs together."""


@dataclass(frozen=True)
class Group:
    """Equal things standing together in one quarter of the picture, or in its middle."""

    shape: str
    color: str
    texture: str
    size: str
    count: int
    place: str

    @property
    def at(self) -> tuple[float, float]:
        """Column and row: 0 left or top, 1 right or bottom, 0.5 in the middle."""
        if self.place == "middle":
            return 0.5, 0.5
        return float("right" in self.place), float("bottom" in self.place)


@dataclass(frozen=True)
class Scene:
    """A ground and its groups in reading order; no two groups share a shape or a place."""

    ground: str
    groups: tuple[Group, ...]

    def with_shape(self, shape: str) -> Group | None:
        """The group of that shape, if there is one."""
        return next((group for group in self.groups if group.shape == shape), None)

    def with_color(self, color: str) -> list[Group]:
        """All groups of that colour."""
        return [group for group in self.groups if group.color == color]

    def numbers(self, *groups: Group) -> tuple[int, ...]:
        """Where these groups stand in reading order, from 0."""
        return tuple(self.groups.index(group) for group in groups)


def is_held_out(shape: str, color: str, texture: str) -> bool:
    """Whether this combination is kept from every training set; each pair of the three still occurs in training."""
    colors = tuple(COLORS)
    return (SHAPES.index(shape) + 2 * colors.index(color) + TEXTURES.index(texture)) % 5 == 0


LOOKS = tuple(product(SHAPES, COLORS, TEXTURES))
TRAINING_LOOKS = tuple(look for look in LOOKS if not is_held_out(*look))
HELD_OUT_LOOKS = tuple(look for look in LOOKS if is_held_out(*look))


def draw_scene(rng: random.Random, *, held_out: bool = False, groups: int | None = None) -> Scene:
    """A scene at random: of training combinations only, or with `held_out` of held-out combinations only."""
    looks = HELD_OUT_LOOKS if held_out else TRAINING_LOOKS
    number = groups or rng.choices((1, 2), weights=(4, 6))[0]
    chosen: list[tuple[str, str, str]] = []
    while len(chosen) < number:
        look = rng.choice(looks)
        if all(look[0] != other[0] for other in chosen):
            chosen.append(look)
    places = [rng.randrange(5)] if number == 1 else sorted(rng.sample(range(4), number))
    members = tuple(
        Group(shape, color, texture, rng.choice(SIZES), rng.choices(COUNTS, weights=(4, 3, 2, 2))[0], PLACES[place])
        for (shape, color, texture), place in zip(chosen, places, strict=True)
    )
    return Scene(rng.choice(GROUNDS), members)
