"""How all of the toy world is worded: statements of a passage, questions with their answers, a few endings."""

from __future__ import annotations

from dataclasses import dataclass

GROUND = 9
"""The number by which statements and questions speak of the ground, or of the bed of a sound."""


@dataclass(frozen=True)
class Asked:
    """A question with its one right answer, and the kind of question it is."""

    kind: str
    question: str
    answer: str
    about: tuple[int, ...] = ()
    """Numbers of the groups (in a story: of the persons) that it takes to answer it."""
    holds: bool | None = None
    """Of a question that supposes something: whether that is so."""
    evidence: tuple[str, ...] = ()
    """Words of the statements it is about that bear this out."""


@dataclass(frozen=True)
class Statement:
    """A part of a passage."""

    text: str
    about: int | None = None
    """Number of the group (in a story: of the person) that it speaks of."""


def plural(word: str, count: int) -> str:
    """`word` for that many."""
    if count == 1:
        return word
    return word + ("es" if word.endswith(("s", "x", "ss")) else "s")


def with_article(phrase: str) -> str:
    """`phrase` behind a or an."""
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def listed(phrases: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]
