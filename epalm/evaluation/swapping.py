"""Which row lends its input to which: a derangement, so that all inputs are met as often as before, by other rows."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence

from epalm.data.file_features import Media

_SHARED_FILE, _SAME_TARGET = 3, 1  # no two of the latter may outweigh one of the former
_SEED = 0


def swapped(media: Sequence[Media], targets: Sequence[Hashable]) -> list[int | None]:
    """For every row the number of the row whose files it gets, all of them together; the same at every call.

    The two bring the same modalities and have no file in common, nor the same target where that can be had.

    Args:
        media: the files of each row.
        targets: what each is to say.

    Returns:
        None for a row that has no partner. Where one input is that of more than half of the rows, others lend theirs
        more than once.
    """
    partners: list[int | None] = [None] * len(media)
    groups: dict[frozenset[str], list[int]] = {}
    for number, files in enumerate(media):
        groups.setdefault(frozenset(files), []).append(number)
    for members in groups.values():
        found = _swapped([frozenset(media[i].items()) for i in members], [targets[i] for i in members])
        for i, place in zip(members, found, strict=True):
            partners[i] = None if place is None else members[place]
    return partners


def _swapped(files: Sequence[frozenset[Hashable]], targets: Sequence[Hashable]) -> list[int | None]:
    """The same, of rows that bring the same modalities."""
    count = len(files)

    def cost(row: int, partner: int) -> int:
        shared = not files[row].isdisjoint(files[partner])
        return _SHARED_FILE * shared + _SAME_TARGET * (targets[row] == targets[partner])

    order = random.Random(_SEED).sample(range(count), count)
    partners = [0] * count
    for place, row in enumerate(order):
        partners[row] = order[place - 1]
    for row in range(count):
        if cost(row, partners[row]):  # exchange partners with the row where that mends most

            def after(other: int, row: int = row) -> int:
                both = cost(row, partners[other]) + cost(other, partners[row])
                return both - cost(other, partners[other])

            other = min(range(count), key=after)
            if after(other) < cost(row, partners[row]):
                partners[row], partners[other] = partners[other], partners[row]
    found: list[int | None] = []
    for row, partner in enumerate(partners):
        if not files[row].isdisjoint(files[partner]):
            partner = min(((row + step) % count for step in range(count)), key=lambda other: cost(row, other))
        found.append(partner if files[row].isdisjoint(files[partner]) else None)
    return found
