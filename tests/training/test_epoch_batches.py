"""Which rows make which batch."""

from __future__ import annotations

from itertools import islice

import pytest

from epalm.training.batches import batches_per_epoch, endless_batches, epoch_batches

KINDS = ["image"] * 11 + ["audio"] * 5 + [frozenset({"image", "audio"})] * 2


@pytest.mark.parametrize("batch_size", [1, 3, 4, 50])
def test_every_row_once_an_epoch_and_kinds_apart(batch_size: int) -> None:
    for epoch in range(3):
        batches = list(epoch_batches(KINDS, batch_size, seed=0, epoch=epoch))
        assert sorted(row for batch in batches for row in batch) == list(range(len(KINDS)))
        assert all(len({KINDS[row] for row in batch}) == 1 for batch in batches)
        assert all(1 <= len(batch) <= batch_size for batch in batches)
        assert len(batches) == batches_per_epoch(KINDS, batch_size)


def test_order_follows_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        return list(epoch_batches(KINDS, 3, seed, epoch))

    assert order(0, 0) == order(0, 0)
    assert len({str(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_endless_is_epoch_after_epoch() -> None:
    count = batches_per_epoch(KINDS, 3)
    several = list(islice(endless_batches(KINDS, 3, seed=7), 2 * count))
    assert several == [*epoch_batches(KINDS, 3, 7, 0), *epoch_batches(KINDS, 3, 7, 1)]


def test_kinds_take_turns() -> None:
    kinds = ["a"] * 64 + ["b"] * 64
    first = [kinds[batch[0]] for batch in epoch_batches(kinds, 4, seed=0, epoch=0)][:16]
    assert {"a", "b"} == set(first)
