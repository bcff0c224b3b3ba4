"""Little stories about people and their things: breadth for the language model's text, beyond scenes of shapes."""

from __future__ import annotations

import random

from epalm.toyworld.pictures.language import Asked, Statement, plural, with_article
from epalm.toyworld.pictures.world import COLORS, NUMBERS

_PEOPLE = ("anna", "ben", "clara", "david", "emma", "felix", "grace", "henry", "iris", "jack", "mia", "tom")
_THINGS = (
    "ball",
    "book",
    "cup",
    "hat",
    "kite",
    "boat",
    "chair",
    "apple",
    "shoe",
    "car",
    "lamp",
    "bag",
    "dog",
    "cat",
    "bird",
    "flower",
)
_PLACES = ("kitchen", "garden", "park", "school", "street", "house", "forest", "beach", "office", "shop")
NAMES = frozenset((*_PEOPLE, *_THINGS, *(plural(thing, 2) for thing in _THINGS), *_PLACES))
"""Words by which a story's question can say whom or what it is about."""


def tell_story(rng: random.Random, questions: int) -> tuple[list[Statement], list[Asked]]:
    """A story of two or three sentences, and that many questions it answers."""
    people = rng.sample(_PEOPLE, rng.choice((1, 2, 2, 3)))
    statements, asked = [], []
    things, places = rng.sample(_THINGS, len(people)), rng.sample(_PLACES, len(people))
    for number, (person, thing, place) in enumerate(zip(people, things, places, strict=True)):
        color, count = rng.choice(tuple(COLORS)), rng.choices((1, 2, 3, 4), weights=(5, 2, 2, 1))[0]
        many = plural(thing, count)
        owned = with_article(f"{color} {many}") if count == 1 else f"{NUMBERS[count]} {color} {many}"
        wordings = (
            f"{person} has {owned} and is in the {place}.",
            f"in the {place} {person} holds {owned}.",
            f"{person} is in the {place} with {owned}.",
            f"{person} went to the {place}. {person} has {owned}.",
        )
        statements.append(Statement(rng.choice(wordings), number))
        be = "is" if count == 1 else "are"
        claimed = rng.choice(_PLACES) if rng.random() < 0.5 else place
        about = (number,)
        asked += [
            Asked("who", f"who has the {many}", person, about),
            Asked("who", f"who is in the {place}", person, about),
            Asked("where", f"where is {person}", place, about),
            Asked("color", f"what color {be} the {many}", color, about),
            Asked("count", f"how many {plural(thing, 2)} does {person} have", NUMBERS[count], about),
            Asked("what", f"what does {person} have", owned, about),
            Asked(
                "property",
                f"is {person} in the {claimed}",
                "yes" if claimed == place else "no",
                about,
                claimed == place,
                (place,),
            ),
        ]
    return statements, rng.choices(asked, k=questions)
