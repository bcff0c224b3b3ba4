"""Sounds of the toy world: what can be heard in one, and how one is drawn at random.

Every shape has a voice of its own. A sound is one or two events, one after the other, over a bed of noise or over
silence; an event is a voice that calls one to four times, loud or quiet, its pitch rising, falling or steady. Every
fifth combination of shape, motion, loudness and count is *held out*: no training set of any part ever holds it, and
held-out sounds hold nothing else.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import product

from epalm.toyworld.pictures.world import COUNTS, SHAPES

MOTIONS = ("rising", "falling", "steady")
LOUDNESS = ("loud", "quiet")
BEDS = ("silence", "hiss", "hum", "rain")


@dataclass(frozen=True)
class Event:
    """A voice that calls a few times."""

    shape: str
    motion: str
    loudness: str
    count: int


@dataclass(frozen=True)
class Sound:
    """A bed and one or two events in the order of time, of different shapes."""

    bed: str
    events: tuple[Event, ...]

    def with_shape(self, shape: str) -> Event | None:
        """The event of that shape, if there is one."""
        return next((event for event in self.events if event.shape == shape), None)

    def numbers(self, *events: Event) -> tuple[int, ...]:
        """Where these events stand in time, from 0."""
        return tuple(self.events.index(event) for event in events)


def is_held_out(shape: str, motion: str, loudness: str, count: int) -> bool:
    """Whether this combination is kept from every training set; any three of the four still occur in training."""
    return (SHAPES.index(shape) + MOTIONS.index(motion) + 2 * LOUDNESS.index(loudness) + count) % 5 == 0


_EVENTS = {
    held_out: tuple(
        Event(*event) for event in product(SHAPES, MOTIONS, LOUDNESS, COUNTS) if is_held_out(*event) == held_out
    )
    for held_out in (False, True)
}


def draw_sound(rng: random.Random, *, held_out: bool = False, events: int | None = None) -> Sound:
    """A sound at random: of training combinations only, or with `held_out` of held-out combinations only."""
    first, second = rng.sample(_EVENTS[held_out], 2)
    while first.shape == second.shape:
        first, second = rng.sample(_EVENTS[held_out], 2)
    number = events or rng.choices((1, 2), weights=(4, 6))[0]
    return Sound(rng.choice(BEDS), (first, second)[:number])
