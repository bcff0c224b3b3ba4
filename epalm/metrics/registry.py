"""Every score by name. A metric turns each row into a few numbers and then all rows into its scores.

The two steps are apart for two reasons: a corpus score such as BLEU is no mean of row scores, let alone of batch means,
and a bootstrap can draw rows anew without comparing any text again.

Scale: everything is in percent, 0 to 100, but CIDEr, which has no upper end at 100 and is given times 100 as in papers.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from epalm.errors import ConfigError, DataError
from epalm.metrics.tokens import tokenize_caption

FloatArray = NDArray[np.float64]
Reference = Sequence[str] | Mapping[str, float]
"""What a prediction is held against: captions or answers, or answers with their soft scores."""


def _mean(statistics: FloatArray) -> FloatArray:
    return statistics.mean(axis=0)


@dataclass(frozen=True)
class Metric:
    """One family of scores that share the work of comparing."""

    names: tuple[str, ...]
    """The scores it gives, in the order of `total`'s result."""
    reads: Literal["text", "tokens"]
    """Whether `statistics` takes answers as written or tokenised captions."""
    statistics: Callable[[Sequence[Any], Sequence[Any]], FloatArray]
    """(predictions, references) of N rows -> `(N, C)`."""
    total: Callable[[FloatArray], FloatArray]
    """`(N, C)` -> one score for each name; rows may be any selection, repeated or not."""


_METRICS: dict[str, Metric] = {}


def metric(
    *names: str, reads: Literal["text", "tokens"], total: Callable[[FloatArray], FloatArray] = _mean
) -> Callable[[Callable[..., FloatArray]], Callable[..., FloatArray]]:
    """Register a function of (predictions, references) -> `(N, C)` under `names`; `total` defaults to the mean."""

    def register(statistics: Callable[..., FloatArray]) -> Callable[..., FloatArray]:
        entry = Metric(names, reads, statistics, total)
        _METRICS.update(dict.fromkeys(names, entry))
        return statistics

    return register


def metric_names() -> tuple[str, ...]:
    """All scores there are."""
    return tuple(_METRICS)


def get_metric(name: str) -> Metric:
    """The metric that gives the score `name`.

    Raises:
        ConfigError: no metric has that name; the nearest one, or all, are named.
    """
    if name in _METRICS:
        return _METRICS[name]
    near = difflib.get_close_matches(name, _METRICS, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"choose from {', '.join(_METRICS)}"
    raise ConfigError(f"unknown metric '{name}'; {hint}")


def score(names: Sequence[str], predictions: Sequence[str], references: Sequence[Reference]) -> dict[str, float]:
    """Scores over a whole split: one prediction and one set of references for each row.

    Raises:
        ConfigError: a metric is unknown.
        DataError: no rows, not as many references as predictions, a row without references, or a row that a metric
            cannot judge; the row is named by its place, counting from 1.
    """
    metrics = [get_metric(name) for name in names]
    _check_rows(predictions, references)
    read: dict[str, tuple[Sequence[Any], Sequence[Any]]] = {"text": (predictions, references)}
    if any(entry.reads == "tokens" for entry in metrics):
        read["tokens"] = _tokenised(predictions, references)
    totals: dict[str, float] = {}
    for name, entry in zip(names, metrics, strict=True):
        if name not in totals:
            values = entry.total(entry.statistics(*read[entry.reads]))
            totals.update(zip(entry.names, map(float, values), strict=True))
    return {name: totals[name] for name in names}


def _check_rows(predictions: Sequence[str], references: Sequence[Reference]) -> None:
    if len(predictions) != len(references):
        raise DataError(f"{len(predictions)} predictions for {len(references)} rows of references; give one for each")
    if not predictions:
        raise DataError("no rows to score; give at least one prediction with its references")
    for row, reference in enumerate(references, start=1):
        if isinstance(reference, str):
            raise DataError(f"references of row {row} are one string; give a list of strings")
        if not reference:
            raise DataError(f"row {row} has no references; leave it out or give some")


def _tokenised(
    predictions: Sequence[str], references: Sequence[Reference]
) -> tuple[list[list[str]], list[list[list[str]]]]:
    return (
        [tokenize_caption(prediction) for prediction in predictions],
        [[tokenize_caption(reference) for reference in row] for row in references],
    )
