"""The loss of right answers, row by row: with a row's own input, with another row's, and with none.

A row's loss is the sum over its answer's tokens and the end token, in nats. It does not depend on the batch, beyond
rounding.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from epalm.data.collate import IGNORED, Encoded, collate
from epalm.data.file_features import Media, OnProgress, PerceivedFiles
from epalm.data.rows import Row
from epalm.errors import DataError
from epalm.evaluation.answerer import Answerer
from epalm.evaluation.swapping import swapped
from epalm.models.cross_entropy import cross_entropy
from epalm.runtime.processes import all_processes, divide_work
from epalm.tasks.admission import count_embeddings

MOST_ROWS = 500
"""So many rows are measured; of more, one in each of as many equal stretches."""
_SEED = 0

InputOf = Literal["right", "shuffled", "none"]
"""Whose input a row is given: its own, another row's, or nobody's."""


@dataclass(frozen=True)
class Item:
    """A row that can be measured."""

    encoded: Encoded
    media: Media
    """Its own files."""
    swapped: Media | None = None
    """Those of the row that lends it its input."""

    @property
    def tokens(self) -> int:
        """Of its answer, the end included."""
        return len(self.encoded.target_ids)


@dataclass(frozen=True)
class MeasuredRows:
    """The rows to measure."""

    items: tuple[Item, ...]
    of_rows: int
    """Out of how many that have an answer."""


def rows_to_measure(answerer: Answerer, rows: Sequence[Row]) -> MeasuredRows:
    """Those that have a right answer, and room for it. Of a row's targets the heaviest counts, of equals the first."""
    answered = [row for row in rows if row.targets and not row.counts_as_wrong]
    chosen = [(row, encoded) for row in _spread(answered) if (encoded := _encoded(answerer, row)) is not None]
    media = answerer.perceived_media([row for row, _ in chosen])
    items = (Item(encoded, files) for (_, encoded), files in zip(chosen, media, strict=True))
    return MeasuredRows(tuple(items), len(answered))


def with_partners(measured: MeasuredRows) -> MeasuredRows:
    """Those that another row can lend its input, with it."""
    items = measured.items
    partners = swapped([item.media for item in items], [tuple(item.encoded.target_ids) for item in items])
    lent = [
        dataclasses.replace(item, swapped=items[partner].media)
        for item, partner in zip(items, partners, strict=True)
        if partner is not None
    ]
    return dataclasses.replace(measured, items=tuple(lent))


_Pass = tuple[InputOf, Sequence[int]]
"""One pass of the language model: whose input, and the numbers of the items."""


def losses_of(
    answerer: Answerer, items: Sequence[Item], inputs: Sequence[InputOf], on_progress: OnProgress | None = None
) -> list[list[float]]:
    """For each of `inputs` the loss of every item.

    Several processes share the work, and all of them must call this with the same items.

    Raises:
        MediaError: a file cannot be read.
    """
    passes = [(name, batch) for batch in _batches(answerer, items) for name in inputs]
    spare = -len(passes) % all_processes().count if answerer.answers_together else 0
    # A language model that is shared out must be called by all processes equally often.
    measured = divide_work(passes + passes[:1] * spare, lambda own: _Losses(answerer, items).of(own, on_progress))
    losses = {
        (name, number): loss
        for (name, batch), found in zip(passes, measured, strict=False)
        for number, loss in zip(batch, found, strict=True)
    }
    return [[losses[name, number] for number in range(len(items))] for name in inputs]


def _spread(rows: Sequence[Row]) -> list[Row]:
    """All rows, or one of each stretch, drawn: what comes every so many rows is neither met always nor never."""
    if len(rows) <= MOST_ROWS:
        return list(rows)
    rng = random.Random(_SEED)
    ends = [len(rows) * stretch // MOST_ROWS for stretch in range(MOST_ROWS + 1)]
    return [rows[rng.randrange(first, last)] for first, last in itertools.pairwise(ends)]


def _encoded(answerer: Answerer, row: Row) -> Encoded | None:
    """A row with its heaviest target, as in training; None where the language model cannot take it."""
    weights: Sequence[float] = row.weights or [row.targets.count(target) for target in row.targets]
    heaviest = row.targets[max(range(len(weights)), key=weights.__getitem__)]
    try:
        encoded = answerer.tasks.encode(
            dataclasses.replace(row, targets=(heaviest,), weights=None), random.Random(_SEED)
        )
    except DataError:  # a control token that cannot be written as text
        return None
    limit, ids = answerer.model.text_limit, [*encoded.prompt_ids, *encoded.target_ids]
    fits = (limit is None or len(ids) <= limit) and max(ids) < count_embeddings(answerer.model)
    return encoded if fits else None


def _batches(answerer: Answerer, items: Sequence[Item]) -> Iterator[list[int]]:
    """Numbers of items that bring the same modalities, of like length; with the legacy mask, of the same."""

    def length(number: int) -> int:
        return sum(map(len, items[number].encoded))

    groups: dict[Any, list[int]] = {}
    for number in sorted(range(len(items)), key=length):
        unpadded = length(number) if answerer.model.config.mask == "legacy" else 0  # its slot sees padding
        groups.setdefault((frozenset(items[number].media), unpadded), []).append(number)
    size = answerer.generation.batch_size
    for group in groups.values():
        yield from (group[first : first + size] for first in range(0, len(group), size))


class _Losses:
    """Computes the losses of items, in this process."""

    def __init__(self, answerer: Answerer, items: Sequence[Item]) -> None:
        self.answerer, self.items = answerer, items
        self.perceived: PerceivedFiles = answerer.feature_source()

    def of(self, passes: Sequence[_Pass], on_progress: OnProgress | None) -> list[list[float]]:
        """The losses of the items of each pass."""
        media = [files for whose, numbers in passes for files in self._media(whose, numbers)]
        self.perceived.perceive(media, on_progress, alone=True)
        losses = []
        for done, (whose, numbers) in enumerate(passes, start=1):
            losses.append(self._pass(whose, numbers))
            if on_progress is not None:
                on_progress("measuring perception", done, len(passes))
        return losses

    def _media(self, whose: InputOf, numbers: Sequence[int]) -> list[Media]:
        if whose == "none":
            return []
        return [self.items[i].media if whose == "right" else self.items[i].swapped or {} for i in numbers]

    @torch.no_grad()
    def _pass(self, whose: InputOf, numbers: Sequence[int]) -> list[float]:
        encoded = [self.items[i].encoded for i in numbers]
        batch = collate(encoded, self.answerer.tasks.pad_id)
        media = self._media(whose, numbers)
        features = self.perceived.of(media) or None if media else None
        logits = self.answerer.model(
            batch.input_ids, batch.attention_mask, batch.labels, features=features
        ).logits  # (N, V), row by row
        targets = batch.labels[batch.labels != IGNORED].to(logits.device)  # (N,)
        counts = [len(row.target_ids) for row in encoded]
        rows = zip(logits.split(counts), targets.split(counts), strict=True)
        return torch.stack([cross_entropy(*row) for row in rows]).tolist()
