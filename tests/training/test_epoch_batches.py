"""Which rows make which batch."""

from __future__ import annotations

from itertools import islice, pairwise

import pytest

from epalm.training.batches import Batches, share_of

KINDS = ["image"] * 11 + ["audio"] * 5 + [frozenset({"image", "audio"})] * 2


@pytest.mark.parametrize("batch_size", [1, 3, 4, 50])
@pytest.mark.parametrize("grouped", [False, True])
def test_every_row_once_an_epoch_and_kinds_apart(batch_size: int, grouped: bool) -> None:
    batches = Batches(KINDS, batch_size, seed=0, lengths=[7 * row % 5 for row in range(18)] if grouped else None)
    for epoch in range(3):
        cut = batches.epoch(epoch)
        assert sorted(row for batch in cut for row in batch) == list(range(len(KINDS)))
        assert all(len({KINDS[row] for row in batch}) == 1 for batch in cut)
        assert all(1 <= len(batch) <= batch_size for batch in cut)
        assert len(cut) == len(batches)


def test_order_follows_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        return Batches(KINDS, 3, seed).epoch(epoch)

    assert order(0, 0) == order(0, 0)
    assert len({str(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


@pytest.mark.parametrize("step", [0, 1, 6, 7, 13, 14])
def test_after_some_steps_it_goes_on_where_it_was(step: int) -> None:
    batches = Batches(KINDS, 3, seed=7)
    assert len(batches) == 7
    several = [batch for epoch in range(4) for batch in batches.epoch(epoch)]
    assert list(islice(batches.after(step), 12)) == several[step : step + 12]


def test_kinds_take_turns() -> None:
    kinds = ["a"] * 64 + ["b"] * 64
    first = [kinds[batch[0]] for batch in Batches(kinds, 4, seed=0).epoch(0)][:16]
    assert {"a", "b"} == set(first)


def test_rows_of_like_length_go_together_and_in_no_order_of_length() -> None:
    lengths = [row * 37 % 101 for row in range(1000)]

    def padding(batches: Batches) -> int:
        return sum(max(lengths[row] for row in batch) - lengths[row] for batch in batches.epoch(0) for row in batch)

    grouped, mixed = Batches([0] * 1000, 8, 0, lengths), Batches([0] * 1000, 8, 0)
    assert padding(grouped) < 0.2 * padding(mixed)
    longest = [max(lengths[row] for row in batch) for batch in grouped.epoch(0)]
    rises = sum(a < b for a, b in pairwise(longest))
    assert 0.3 < rises / len(longest) < 0.7


@pytest.mark.parametrize(("rows", "parts"), [(8, 2), (7, 2), (7, 3), (2, 4), (1, 3)])
def test_shares_are_the_batch(rows: int, parts: int) -> None:
    shares = [share_of(range(rows), part, parts) for part in range(parts)]
    assert [row for share in shares for row in share] == list(range(rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
