"""Which rows make which batch: a fresh order every epoch, drawn from the seed alone, and each process's share of it.

A batch is what one optimizer step learns from, whatever the number of processes: every process knows all batches, and
takes its part of each.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import torch

_POOL = 50
"""Batches whose rows are sorted by length together: enough for little padding, few enough for a random order."""


@dataclass(frozen=True)
class Batches:
    """All batches of a run.

    No batch mixes rows of different kinds: those of a step bring the same modalities, in every process.
    """

    kinds: Sequence[Hashable]
    """Of every row, such as its task and the modalities it brings."""
    batch_size: int
    """Rows a batch, over all processes; the last of each kind may be smaller."""
    seed: int
    """Of the run."""
    lengths: Sequence[int] | None = None
    """About how long each row is; rows of like length go together, which saves padding. None: as they come."""

    def __len__(self) -> int:
        """Batches an epoch."""
        return sum(-(-count // self.batch_size) for count in Counter(self.kinds).values())

    def epoch(self, number: int) -> list[list[int]]:
        """The batches of an epoch, which visit every row once, in random order.

        Args:
            number: counts from 0; each has its own order.
        """
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        rows: dict[Hashable, list[int]] = defaultdict(list)
        for row in torch.randperm(len(self.kinds), generator=generator).tolist():
            rows[self.kinds[row]].append(row)
        batches = [batch for kind_rows in rows.values() for batch in self._cut(kind_rows)]
        return [batches[place] for place in torch.randperm(len(batches), generator=generator).tolist()]

    def after(self, step: int) -> Iterator[list[int]]:
        """Epoch after epoch, without the first `step` batches."""
        first, place = divmod(step, len(self))
        for number in itertools.count(first):
            yield from self.epoch(number)[place:]
            place = 0

    def _cut(self, rows: list[int]) -> Iterator[list[int]]:
        pool_size = self.batch_size * (_POOL if self.lengths else 1)
        for start in range(0, len(rows), pool_size):
            pool_rows = rows[start : start + pool_size]
            if self.lengths:
                pool_rows = sorted(pool_rows, key=self.lengths.__getitem__)
            for first in range(0, len(pool_rows), self.batch_size):
                yield pool_rows[first : first + self.batch_size]


def share_of(batch: Sequence[int], part: int, parts: int) -> Sequence[int]:
    """One of `parts` shares of a batch, all of like size; empty where there are not rows enough."""
    return batch[len(batch) * part // parts : len(batch) * (part + 1) // parts]
