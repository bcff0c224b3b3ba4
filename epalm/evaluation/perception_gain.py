"""What perception is worth to an adapter: the loss on rows held out with their own input, another row's, and none.

An adapter that has learned how answers read, and nothing of what it perceives, says as likely a word to another
picture as to the right one. The loss tells the two apart long before generated answers do.

A row's loss is the sum over its answer's tokens and the end token, in nats. It does not depend on the batch, beyond
rounding; losses are summed exactly over rows, whoever computed them.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from epalm.data.collate import IGNORED, Encoded, collate
from epalm.data.file_features import Media, OnProgress, PerceivedFiles
from epalm.data.rows import Row
from epalm.errors import DataError
from epalm.evaluation.answerer import Answerer
from epalm.evaluation.swapping import swapped
from epalm.metrics import Score
from epalm.metrics.registry import FloatArray
from epalm.metrics.split_scores import with_intervals
from epalm.models.cross_entropy import cross_entropy
from epalm.runtime.processes import all_processes, divide_work
from epalm.tasks.admission import count_embeddings

PERCEPTION_GAIN = "perception_gain"
"""What it is called among scores."""
MOST_ROWS = 500
"""So many rows are measured; of more, one in each of as many equal stretches."""
_LEAST = 0.005  # nats a token: what is printed as 0.00 is no gain
_SEED = 0
_REMEDY = "try more steps, a higher training.learning_rate or another encoder, and see that rows name their own files"


@dataclass(frozen=True)
class PerceptionGain:
    """Losses in nats a token, over the same rows."""

    right: float
    """With a row's own input."""
    shuffled: float
    """With another row's."""
    none: float
    """Without any."""
    gain: Score
    """`shuffled - right`, with its bootstrap 95 % interval, paired over rows."""
    rows: int
    """How many were measured."""
    of_rows: int
    """Out of how many that have an answer."""
    tokens: int
    """Of their answers, ends included."""
    has_connector: bool = True
    """Whether there is anything that could perceive."""

    @property
    def perceives(self) -> bool:
        """Whether the gain is surely more than nothing."""
        return self.gain.low >= _LEAST

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **dataclasses.asdict(self.gain),
            "perceives": self.perceives,
            "loss": {"right": self.right, "shuffled": self.shuffled, "none": self.none},
            "rows": self.rows,
            "of_rows": self.of_rows,
            "tokens": self.tokens,
        }

    def as_text(self) -> str:
        """A line of losses, and what follows from them."""
        count = f"{self.rows:,} rows" if self.rows == self.of_rows else f"{self.rows:,} of {self.of_rows:,} rows"
        losses = f"{self.right:.3f} with the right input, {self.shuffled:.3f} with another's, {self.none:.3f} with none"
        value, low, high = (round(number, 2) + 0.0 for number in dataclasses.astuple(self.gain))  # no -0.00
        gain = f"{value:+.2f} nats a token [{low:.2f}, {high:.2f}]"
        remedy = _REMEDY if self.has_connector else "it has no connector to perceive by (adapter.preset)"
        verdict = f"perceives: {gain}" if self.perceives else f"does not perceive: {gain}; {remedy}"
        return f"perception ({count}): loss a token {losses}\n{verdict}"


@dataclass(frozen=True)
class _Item:
    """A row that can be measured."""

    encoded: Encoded
    media: Media
    """Its own files."""
    swapped: Media
    """Those of the row that lends it its input."""


_Pass = tuple[str, Sequence[int]]
"""One pass of the language model: `right`, `shuffled` or `none`, and the numbers of the items."""


def measure_perception(
    answerer: Answerer, rows: Sequence[Row], on_progress: OnProgress | None = None
) -> PerceptionGain | str:
    """What perception is worth on `rows`, or why that cannot be told.

    Several processes share the work, and all of them must call this with the same rows.

    Args:
        answerer: what is measured.
        rows: rows without a right answer are left out, and those too long with it. Of a row's targets the heaviest
            counts, of equals the first.
        on_progress: told of perceiving and measuring.

    Raises:
        MediaError: a file cannot be read.
    """
    items, of_rows = _items(answerer, rows)
    if why := _obstacle(items, of_rows):
        return why
    conditions = ("right", "shuffled", "none") if answerer.modalities else ("right",)
    passes = [(condition, batch) for batch in _batches(answerer, items) for condition in conditions]
    spare = -len(passes) % all_processes().count if answerer.answers_together else 0
    # A language model that is shared out must be called by all processes equally often.
    measured = divide_work(passes + passes[:1] * spare, lambda own: _Losses(answerer, items).of(own, on_progress))
    losses = {condition: [math.nan] * len(items) for condition in ("right", "shuffled", "none")}
    for (condition, batch), found in zip(passes, measured, strict=False):
        for number, loss in zip(batch, found, strict=True):
            for name in (condition,) if answerer.modalities else losses:  # blind, it says the same to everything
                losses[name][number] = loss
    tokens = [len(item.encoded.target_ids) for item in items]
    numbers = np.array([*losses.values(), tokens], dtype=np.float64).T  # (N, 4)
    if not np.isfinite(numbers).all():
        return "a loss is not a finite number"
    right, shuffled, none, gain = with_intervals(numbers, _per_token)
    return PerceptionGain(
        right.value, shuffled.value, none.value, gain, len(items), of_rows, sum(tokens), bool(answerer.modalities)
    )


def why_not_measured(answerer: Answerer, rows: Sequence[Row]) -> str | None:
    """Why `measure_perception` cannot tell anything of `rows`, or nothing but 0; None where it can."""
    return _obstacle(*_items(answerer, rows)) or (None if answerer.modalities else "the adapter has no connector")


def _per_token(sums: FloatArray) -> FloatArray:
    """Sums of the three losses and of tokens, `(..., 4)` -> the losses a token, and the gain, `(..., 4)`."""
    losses = sums[..., :3] / sums[..., 3:]
    return np.concatenate([losses, losses[..., 1:2] - losses[..., :1]], axis=-1)


def _items(answerer: Answerer, rows: Sequence[Row]) -> tuple[list[_Item], int]:
    """The rows to measure, and out of how many."""
    answered = [row for row in rows if row.targets and not row.counts_as_wrong]
    chosen = [(row, encoded) for row in _spread(answered) if (encoded := _encoded(answerer, row)) is not None]
    media = answerer.perceived_media([row for row, _ in chosen])
    partners: Sequence[int | None] = range(len(chosen))
    if answerer.modalities:
        partners = swapped(media, [tuple(encoded.target_ids) for _, encoded in chosen])
    items = [
        _Item(encoded, files, media[partner])
        for (_, encoded), files, partner in zip(chosen, media, partners, strict=True)
        if partner is not None
    ]
    return items, len(answered)


def _obstacle(items: Sequence[_Item], of_rows: int) -> str | None:
    if items:
        return None
    if not of_rows:
        return "no row has an answer"
    return "no row can be given another row's input: there is one input alone, or answers are too long"


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
    limit, ids = answerer.model.anatomy.position_limit, [*encoded.prompt_ids, *encoded.target_ids]
    fits = (limit is None or len(ids) <= limit) and max(ids) < count_embeddings(answerer.model)
    return encoded if fits else None


def _batches(answerer: Answerer, items: Sequence[_Item]) -> Iterator[list[int]]:
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

    def __init__(self, answerer: Answerer, items: Sequence[_Item]) -> None:
        self.answerer, self.items = answerer, items
        self.perceived: PerceivedFiles = answerer.feature_source()

    def of(self, passes: Sequence[_Pass], on_progress: OnProgress | None) -> list[list[float]]:
        """The losses of the items of each pass."""
        media = [files for condition, numbers in passes for files in self._media(condition, numbers)]
        self.perceived.perceive(media, on_progress, alone=True)
        losses = []
        for done, (condition, numbers) in enumerate(passes, start=1):
            losses.append(self._pass(condition, numbers))
            if on_progress is not None:
                on_progress("measuring perception", done, len(passes))
        return losses

    def _media(self, condition: str, numbers: Sequence[int]) -> list[Media]:
        if condition == "none":
            return []
        return [self.items[i].media if condition == "right" else self.items[i].swapped for i in numbers]

    @torch.no_grad()
    def _pass(self, condition: str, numbers: Sequence[int]) -> list[float]:
        encoded = [self.items[i].encoded for i in numbers]
        batch = collate(encoded, self.answerer.tasks.pad_id)
        media = self._media(condition, numbers)
        features = self.perceived.of(media) or None if media else None
        logits = self.answerer.model(
            batch.input_ids, batch.attention_mask, batch.labels, features=features
        ).logits  # (N, V), row by row
        targets = batch.labels[batch.labels != IGNORED].to(logits.device)  # (N,)
        counts = [len(row.target_ids) for row in encoded]
        rows = zip(logits.split(counts), targets.split(counts), strict=True)
        return torch.stack([cross_entropy(*row) for row in rows]).tolist()
