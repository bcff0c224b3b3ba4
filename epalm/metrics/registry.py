"""Every score by name. A metric turns each row into a few numbers and then all rows into its scores.

The two steps are apart for two reasons: a corpus score such as BLEU is no mean of row scores, let alone of batch means,
and a bootstrap can draw rows anew without comparing any text again.

Scale: everything is in percent, 0 to 100, but CIDEr, which has no upper end at 100 and is given times 100 as in papers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from epalm.errors import ConfigError
from epalm.metrics import java
from epalm.settings.nearest import nearest

FloatArray = NDArray[np.float64]
Reference = Sequence[str] | Mapping[str, float]
"""What a prediction is held against: captions or answers, or answers with their soft scores."""


def _mean(sums: FloatArray, rows: int) -> FloatArray:
    return sums / rows


@dataclass(frozen=True)
class Metric:
    """One family of scores that share the work of comparing."""

    names: tuple[str, ...]
    """The scores it gives, in the order of `total`'s result."""
    reads: Literal["text", "tokens"]
    """Whether `statistics` takes answers as written or tokenised captions."""
    statistics: Callable[[Sequence[Any], Sequence[Any]], FloatArray]
    """(predictions, references) of N rows -> `(N, C)`."""
    total: Callable[[FloatArray, int], FloatArray]
    """Sums over any selection of rows, repeated or not, `(..., C)`, and their number -> `(..., names)`."""
    jars: tuple[str, ...] = ()
    """Of the Java program that it is computed by, by their paths inside pycocoevalcap; none: it needs no Java."""

    def why_not(self) -> str | None:
        """Why it cannot be computed on this machine, and what to do; None where it can."""
        return java.why_not(*self.jars) if self.jars else None


_METRICS: dict[str, Metric] = {}


def metric(
    *names: str,
    reads: Literal["text", "tokens"],
    total: Callable[[FloatArray, int], FloatArray] = _mean,
    jars: tuple[str, ...] = (),
) -> Callable[[Callable[..., FloatArray]], Callable[..., FloatArray]]:
    """Register a function of (predictions, references) -> `(N, C)` under `names`; `total` defaults to the mean."""

    def register(statistics: Callable[..., FloatArray]) -> Callable[..., FloatArray]:
        entry = Metric(names, reads, statistics, total, jars)
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
    raise ConfigError(f"unknown metric '{name}'{nearest(name, _METRICS)}")
