"""Which rows make which batch: a fresh order every epoch, drawn from the seed alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence

import torch


def epoch_batches(kinds: Sequence[Hashable], batch_size: int, seed: int, epoch: int) -> Iterator[list[int]]:
    """Batches of row numbers that visit every row once, in random order; no batch mixes rows of different kinds.

    Args:
        kinds: of every row, such as the modalities it brings.
        batch_size: rows a batch; the last of each kind may be smaller.
        seed: of the run.
        epoch: counts from 0; each has its own order.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    waiting: dict[Hashable, list[int]] = defaultdict(list)
    for row in torch.randperm(len(kinds), generator=generator).tolist():
        batch = waiting[kinds[row]]
        batch.append(row)
        if len(batch) == batch_size:
            yield batch
            waiting[kinds[row]] = []
    yield from (batch for batch in waiting.values() if batch)


def batches_per_epoch(kinds: Sequence[Hashable], batch_size: int) -> int:
    """How many batches `epoch_batches` gives."""
    counts: dict[Hashable, int] = defaultdict(int)
    for kind in kinds:
        counts[kind] += 1
    return sum(-(-count // batch_size) for count in counts.values())


def endless_batches(kinds: Sequence[Hashable], batch_size: int, seed: int) -> Iterator[list[int]]:
    """Epoch after epoch."""
    epoch = 0
    while True:
        yield from epoch_batches(kinds, batch_size, seed, epoch)
        epoch += 1
