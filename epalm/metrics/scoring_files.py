"""A file of predictions against a file of references: anyone's, from any model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from epalm.errors import ConfigError, DataError
from epalm.metrics.accuracy import FEWEST_ANSWERS
from epalm.metrics.files import References, read_predictions, read_references
from epalm.metrics.split import SplitScores, score_split
from epalm.metrics.usual import CAPTION_METRICS, computable, told_left_out

_MOST_NAMED = 3


@dataclass(frozen=True)
class FileScores:
    """Scores, and which of the usual ones could not be computed here."""

    scores: SplitScores
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Metric -> why, and what to do."""
    passed_over: int = 0
    """Predictions for what has captions, none of which counts."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        told = self.scores.as_dict()
        if self.left_out:
            told["not_scored"] = dict(self.left_out)
        if self.passed_over:
            told["passed_over"] = self.passed_over
        return told

    def as_text(self) -> str:
        """Rows, then a line for each score, then what was left out."""
        missing = [told_left_out(self.left_out)] if self.left_out else []
        passed = f"; {self.passed_over} passed over: no caption of theirs counts" if self.passed_over else ""
        return "\n".join([f"{self.scores.rows} rows{passed}", self.scores.as_text(), *missing])


def score_files(
    predictions: Path,
    references: Path,
    names: Sequence[str] = (),
    *,
    only_predicted: bool = False,
    tokenizer: str = "auto",
) -> FileScores:
    """Score predictions against references, matched by id.

    Args:
        predictions: see `epalm.metrics.files`.
        references: the same.
        names: of metrics; without, those that suit the references, but for those that cannot be computed here.
        only_predicted: score only what is predicted, such as the 5,000 pictures of a test split whose references lie
            in the file of a larger one.
        tokenizer: what captions are cut with, see `choose_tokenizer`.

    Raises:
        ConfigError: a metric is unknown or cannot be computed here, or the references do not tell which suit them.
        DataError: a file cannot be read, or the two do not match.
    """
    every, known = read_predictions(predictions), read_references(references)
    given = {row: text for row, text in every.items() if row not in known.passed_over}
    _check_match(predictions, references, given, known, only_predicted)
    rows = [row for row in known.texts if row in given]
    wanted, left_out = (tuple(names), {}) if names else computable(_usual(references, known, rows))
    scores = score_split(
        wanted,
        [given[row] for row in rows],
        [known.texts[row] for row in rows],
        groups=[known.groups.get(row, {}) for row in rows],
        tokenizer=tokenizer,
    )
    return FileScores(scores, left_out, len(every) - len(given))


def _usual(path: Path, known: References, rows: Sequence[str]) -> tuple[str, ...]:
    if known.kind is None:
        raise ConfigError(f"{path}: does not tell whether it holds captions or answers; name a --metric")
    if known.kind == "captions":
        return CAPTION_METRICS
    scored = all(isinstance(known.texts[row], dict) or len(known.texts[row]) >= FEWEST_ANSWERS for row in rows)
    return ("vqa_accuracy",) if scored else ("exact_match",)


def _check_match(
    predictions: Path, references: Path, given: Mapping[str, str], known: References, only_predicted: bool
) -> None:
    strangers = [row for row in given if row not in known.texts]
    if strangers:
        raise DataError(
            f"{predictions}: {len(strangers)} of {len(given)} ids are not in {references}: {_named(strangers)}"
        )
    silent = [row for row in known.texts if row not in given]
    if silent and not only_predicted:
        raise DataError(
            f"{predictions}: lacks {len(silent)} of {len(known.texts)} ids of {references}: {_named(silent)}; "
            "predict them, or score what is there with --only-predicted"
        )


def _named(rows: Sequence[str]) -> str:
    return ", ".join(rows[:_MOST_NAMED]) + (", ..." if len(rows) > _MOST_NAMED else "")
