"""Scores of a whole split, each with a bootstrap interval, overall and by groups of rows.

Rows are compared once. Their numbers are summed exactly, so that a score depends neither on the order of the rows nor
on who predicted them: one process or many, in batches of any size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from epalm.errors import DataError
from epalm.metrics.notes import notes_on
from epalm.metrics.registry import FloatArray, Metric, Reference, get_metric
from epalm.metrics.tokenizer_choice import choose_tokenizer

DRAWS = 1000
"""Bootstrap samples behind an interval."""
_TAILS = (2.5, 97.5)
Groups = Mapping[str, str]
"""What a row counts under beside the whole, such as {"answer_type": "yes/no"}."""


@dataclass(frozen=True)
class Score:
    """One score and the ends of its bootstrap 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class SplitScores:
    """All scores of one split."""

    overall: dict[str, Score]
    """By metric."""
    rows: int
    tokenizer: str | None = None
    """What captions were cut with; None where none were."""
    groups: dict[str, dict[str, dict[str, Score]]] = field(default_factory=dict)
    """Kind of group -> group -> metric, such as `answer_type` -> `yes/no` -> `vqa_accuracy`."""
    group_rows: dict[str, dict[str, int]] = field(default_factory=dict)
    """Kind of group -> group -> rows."""
    notes: tuple[str, ...] = ()
    """What to know of the texts behind the scores, see `epalm.metrics.notes`."""

    @property
    def values(self) -> dict[str, float]:
        """The bare scores."""
        return {name: score.value for name, score in self.overall.items()}

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        content: dict[str, Any] = {
            "rows": self.rows,
            "scores": {name: asdict(score) for name, score in self.overall.items()},
        }
        if self.tokenizer is not None:
            content["tokenizer"] = self.tokenizer
        if self.groups:
            content["groups"] = {
                kind: {
                    name: {
                        "rows": self.group_rows[kind][name],
                        "scores": {metric: asdict(score) for metric, score in scores.items()},
                    }
                    for name, scores in groups.items()
                }
                for kind, groups in self.groups.items()
            }
        if self.notes:
            content["notes"] = list(self.notes)
        return content

    def as_text(self) -> str:
        """A line for each metric, then for each group, then the tokeniser and each note."""
        lines = [f"{name} {score}" for name, score in self.overall.items()]
        for kind, groups in self.groups.items():
            for name, scores in groups.items():
                line = ", ".join(f"{metric} {score}" for metric, score in scores.items())
                lines.append(f"{kind} {name} ({self.group_rows[kind][name]} rows): {line}")
        if self.tokenizer is not None:
            lines.append(f"tokeniser: {self.tokenizer}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def score(
    names: Sequence[str],
    predictions: Sequence[str],
    references: Sequence[Reference],
    *,
    tokenizer: str = "auto",
) -> dict[str, float]:
    """The bare scores of a split, by name; see `score_split`."""
    return score_split(names, predictions, references, tokenizer=tokenizer, draws=0).values


def score_split(
    names: Sequence[str],
    predictions: Sequence[str],
    references: Sequence[Reference],
    *,
    groups: Sequence[Groups] | None = None,
    ids: Sequence[str] | None = None,
    tokenizer: str = "auto",
    draws: int = DRAWS,
    seed: int = 0,
) -> SplitScores:
    """Scores over a whole split: one prediction and one set of references for each row.

    Args:
        names: of metrics.
        predictions: N texts.
        references: what each is held against.
        groups: of each row; scores come for each group, too. CIDEr's rarity of words stays that of the whole split.
        ids: what each row is called in notes; unset: its place, counting from 1.
        tokenizer: what captions are cut with, see `choose_tokenizer`.
        draws: bootstrap samples; with 0, intervals are the scores themselves.
        seed: of the draws; the same gives the same intervals.

    Raises:
        ConfigError: a metric is unknown, or cannot be computed on this machine.
        DataError: no rows, not as many references as predictions, a row without references, or a row that a metric
            cannot judge; the row is named by its place, counting from 1.
    """
    metrics = list({get_metric(name).names: get_metric(name) for name in names}.values())
    _check_rows(predictions, references)
    if groups is not None and len(groups) != len(predictions):
        raise DataError(f"groups of {len(groups)} rows for {len(predictions)} predictions; give them for each")
    read: dict[str, tuple[Sequence[Any], Sequence[Any]]] = {"text": (predictions, references)}
    used_tokenizer: str | None = None
    if any(entry.reads == "tokens" for entry in metrics):
        chosen = choose_tokenizer(tokenizer)
        used_tokenizer, read["tokens"] = chosen.name, _tokenised(chosen.tokenize, predictions, references)
    blocks = [entry.statistics(*read[entry.reads]) for entry in metrics]
    compared = _Compared(metrics, [block.shape[1] for block in blocks], np.hstack(blocks))
    members = _members(groups or [])
    return SplitScores(
        overall=_picked(compared.scores(draws, seed), names),
        rows=len(predictions),
        tokenizer=used_tokenizer,
        groups={
            kind: {name: _picked(compared.only(rows).scores(draws, seed), names) for name, rows in found.items()}
            for kind, found in members.items()
        },
        group_rows={kind: {name: len(rows) for name, rows in found.items()} for kind, found in members.items()},
        notes=notes_on(names, predictions, references, ids),
    )


@dataclass(frozen=True)
class _Compared:
    """Rows that were compared by several metrics, their numbers side by side."""

    metrics: Sequence[Metric]
    widths: Sequence[int]
    """Columns of each metric."""
    numbers: FloatArray
    """(N, C)."""

    def only(self, rows: Sequence[int]) -> _Compared:
        """Some of the rows."""
        return _Compared(self.metrics, self.widths, self.numbers[rows])

    def scores(self, draws: int, seed: int) -> dict[str, Score]:
        """Every score that the metrics give."""
        names = [name for entry in self.metrics for name in entry.names]
        return dict(zip(names, with_intervals(self.numbers, self._total, draws, seed), strict=True))

    def _total(self, sums: FloatArray) -> FloatArray:
        """Sums over as many rows as there are, `(..., C)` -> all scores, `(..., names)`."""
        parts = np.split(sums, np.cumsum(self.widths)[:-1], axis=-1)
        rows = len(self.numbers)
        return np.concatenate(
            [entry.total(part, rows) for entry, part in zip(self.metrics, parts, strict=True)], axis=-1
        )


def with_intervals(
    numbers: FloatArray, total: Callable[[FloatArray], FloatArray], draws: int = DRAWS, seed: int = 0
) -> list[Score]:
    """Scores of rows that were compared, each with its bootstrap interval.

    Args:
        numbers: (N, C), what was found of each row.
        total: sums over N rows, `(..., C)` -> scores, `(..., S)`.
        draws: see `score_split`.
        seed: see `score_split`.
    """
    # Summed without rounding, so that the order of the rows changes no digit.
    values = total(np.array([math.fsum(column) for column in numbers.T]))
    ends = np.percentile(total(_drawn_sums(numbers, draws, seed)), _TAILS, axis=0) if draws else [values, values]
    return [Score(*map(float, triple)) for triple in zip(values, *ends, strict=True)]


def _drawn_sums(numbers: FloatArray, draws: int, seed: int) -> FloatArray:
    """Sums over rows drawn with replacement, `(draws, C)`."""
    rows, generator = len(numbers), np.random.default_rng(seed)
    times = (np.bincount(generator.integers(rows, size=rows), minlength=rows) for _ in range(draws))
    return np.stack([drawn @ numbers for drawn in times])


def _picked(scores: dict[str, Score], names: Sequence[str]) -> dict[str, Score]:
    return {name: scores[name] for name in names}


def _members(groups: Sequence[Groups]) -> dict[str, dict[str, list[int]]]:
    """Kind of group -> group -> its rows, in alphabetical order."""
    found: dict[str, dict[str, list[int]]] = {}
    for row, kinds in enumerate(groups):
        for kind, name in kinds.items():
            found.setdefault(kind, {}).setdefault(name, []).append(row)
    return {kind: dict(sorted(names.items())) for kind, names in found.items()}


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
    tokenize: Callable[[Sequence[str]], list[list[str]]], predictions: Sequence[str], references: Sequence[Reference]
) -> tuple[list[list[str]], list[list[list[str]]]]:
    """All captions cut at once: predictions, then the references of each row."""
    tokens = iter(tokenize([*predictions, *(text for row in references for text in row)]))
    return [next(tokens) for _ in predictions], [[next(tokens) for _ in row] for row in references]
