"""What perception is worth to an adapter: the loss on rows held out with their own input, another row's, and none.

An adapter that has learned how answers read, and nothing of what it perceives, says as likely a word to another
picture as to the right one. The loss tells the two apart long before generated answers do.

Losses are summed exactly over rows, whoever computed them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from epalm.data.file_features import OnProgress
from epalm.data.rows import Row
from epalm.evaluation.answerer import Answerer
from epalm.evaluation.row_losses import InputOf, MeasuredRows, losses_of, rows_to_measure, with_partners
from epalm.metrics import Score
from epalm.metrics.registry import FloatArray
from epalm.metrics.split_scores import with_intervals

PERCEPTION_GAIN = "perception_gain"
"""What it is called among scores."""
LOSS = "loss"
"""What the loss with the right input is called among what can choose an adapter."""
_ENOUGH = 6
"""Rows from which on a bootstrap interval is about as wide as it should be."""
_T_97_5 = (12.706, 4.303, 3.182, 2.776)
"""Student's t at 97.5 %, of 2 to 5 rows."""
_NO_ROOM = "no row has an answer that the language model has room for"
_LEAST = 0.005  # nats a token: what is printed as 0.00 is no gain
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
    """`shuffled - right`, with its 95 % interval, paired over rows: by bootstrap, of fewer than six by Student's t."""
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
        if self.perceives:
            verdict = f"perceives: {gain}"
        elif self.rows < _ENOUGH and self.gain.value >= _LEAST:
            verdict = f"may perceive: {gain}; {self.rows} rows are too few to tell, give more"
        else:
            remedy = _REMEDY if self.has_connector else "it has no connector to perceive by (adapter.preset)"
            verdict = f"does not perceive: {gain}; {remedy}"
        return f"perception ({count}): loss a token {losses}\n{verdict}"


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
    measured = _measurable(answerer, rows)
    items = measured.items
    if why := _obstacle(measured):
        return why
    # Blind, it says the same to everything.
    inputs: tuple[InputOf, ...] = ("right", "shuffled", "none") if answerer.modalities else ("right",)
    losses = losses_of(answerer, items, inputs, on_progress)
    tokens = [item.tokens for item in items]
    numbers = np.array([*losses, *losses * (3 - len(losses)), tokens], dtype=np.float64).T  # (N, 4)
    if not np.isfinite(numbers).all():
        return "a loss is not a finite number"
    right, shuffled, none, gain = with_intervals(numbers, _per_token)
    if len(items) < _ENOUGH:
        gain = interval_of_few(gain.value, numbers)
    return PerceptionGain(
        right.value,
        shuffled.value,
        none.value,
        gain,
        len(items),
        measured.of_rows,
        sum(tokens),
        bool(answerer.modalities),
    )


def measure_loss(answerer: Answerer, rows: Sequence[Row], on_progress: OnProgress | None = None) -> float | str:
    """The loss a token, in nats, of right answers with the right input, or why it cannot be told.

    Arguments and errors as in `measure_perception`. No row need be lent another's input.
    """
    items = rows_to_measure(answerer, rows).items
    if not items:
        return _NO_ROOM
    (losses,) = losses_of(answerer, items, ["right"], on_progress)
    loss = math.fsum(losses) / sum(item.tokens for item in items)
    return loss if math.isfinite(loss) else "a loss is not a finite number"


def why_no_loss(answerer: Answerer, rows: Sequence[Row]) -> str | None:
    """Why `measure_loss` cannot tell anything of `rows`; None where it can."""
    return None if rows_to_measure(answerer, rows).items else _NO_ROOM


def why_not_measured(answerer: Answerer, rows: Sequence[Row]) -> str | None:
    """Why `measure_perception` cannot tell anything of `rows`, or nothing but 0; None where it can."""
    return _obstacle(_measurable(answerer, rows)) or (None if answerer.modalities else "the adapter has no connector")


def _measurable(answerer: Answerer, rows: Sequence[Row]) -> MeasuredRows:
    measured = rows_to_measure(answerer, rows)
    return with_partners(measured) if answerer.modalities else measured


def _per_token(sums: FloatArray) -> FloatArray:
    """Sums of the three losses and of tokens, `(..., 4)` -> the losses a token, and the gain, `(..., 4)`."""
    losses = sums[..., :3] / sums[..., 3:]
    return np.concatenate([losses, losses[..., 1:2] - losses[..., :1]], axis=-1)


def interval_of_few(gain: float, numbers: FloatArray) -> Score:
    """The gain of fewer rows than are enough, `(N, 4)`, with an interval as wide as so few leave it.

    Samples of so few rows drawn from themselves, as the bootstrap draws them, differ less than the rows do. The
    gain is a ratio of sums over rows; its error is that of the rows' differences beyond their share of it.
    """
    right, shuffled, _, tokens = numbers.T
    count = len(numbers)
    if count == 1:  # alone, a row is measured only of an adapter that does not perceive: the gain is surely 0
        return Score(gain, gain, gain)
    beyond = shuffled - right - gain * tokens  # (N,), of sum 0
    error = math.sqrt(count / (count - 1) * float(beyond @ beyond)) / float(tokens.sum())
    reach = _T_97_5[count - 2] * error
    return Score(gain, gain - reach, gain + reach)


def _obstacle(measured: MeasuredRows) -> str | None:
    if measured.items:
        return None
    if not measured.of_rows:
        return "no row has an answer"
    return "no row can be given another row's input: there is one input alone, or answers are too long"
