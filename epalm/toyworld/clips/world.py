"""Clips of the toy world: what can happen in one, and how one is drawn at random.

A clip is a light or dark ground with one or two things and at most two acts. One thing acts once, or twice in a row; or
two things act one after the other, each standing still meanwhile; or two things collide. Every fifth combination of
shape, colour and deed is *held out*: no training set of any part ever holds it, and held-out clips hold nothing else.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import product

from epalm.toyworld.pictures.world import COLORS, GROUNDS, SHAPES

MOVES = ("moves left", "moves right", "moves up", "moves down")
COLLIDES = "collides"
DEEDS = (*MOVES, "grows", "shrinks", "blinks", COLLIDES)


@dataclass(frozen=True)
class Act:
    """A thing and what it does."""

    shape: str
    color: str
    deed: str


@dataclass(frozen=True)
class Clip:
    """A ground and one or two acts in the order of time; of things that collide the left one stands first."""

    ground: str
    acts: tuple[Act, ...]

    @property
    def things(self) -> tuple[tuple[str, str], ...]:
        """Shape and colour of each thing, the one that acts first standing first."""
        return tuple(dict.fromkeys((act.shape, act.color) for act in self.acts))

    @property
    def collision(self) -> bool:
        """Whether its two things collide."""
        return self.acts[0].deed == COLLIDES

    def numbers(self, *acts: Act) -> tuple[int, ...]:
        """Where these acts stand in time, from 0."""
        return tuple(self.acts.index(act) for act in acts)


def is_held_out(shape: str, color: str, deed: str) -> bool:
    """Whether this combination is kept from every training set; each pair of the three still occurs in training."""
    return (SHAPES.index(shape) + 2 * tuple(COLORS).index(color) + DEEDS.index(deed)) % 5 == 0


_THINGS = tuple(product(SHAPES, COLORS))
_KINDS = ("once", "twice", "in turn", "collision")


def draw_clip(rng: random.Random, *, held_out: bool = False, kind: str | None = None) -> Clip:
    """A clip at random: of training combinations only, or with `held_out` of held-out combinations only.

    Args:
        rng: decides.
        held_out: which combinations it is made of.
        kind: `once`, `twice`, `in turn` or `collision`; drawn at random where it is left out.
    """
    kind = kind or rng.choices(_KINDS, weights=(4, 3, 5, 2))[0]
    while True:
        first, second = rng.choice(_THINGS), rng.choice(_THINGS)
        deeds = [COLLIDES] * 2 if kind == "collision" else rng.sample(DEEDS[:-1], 2)
        acts = [Act(*first, deeds[0]), Act(*(first if kind == "twice" else second), deeds[1])]
        acts = acts[:1] if kind == "once" else acts
        places_may_differ = kind in ("once", "twice") or first[0] != second[0]
        if places_may_differ and all(is_held_out(act.shape, act.color, act.deed) == held_out for act in acts):
            return Clip(rng.choice(GROUNDS), tuple(acts))
