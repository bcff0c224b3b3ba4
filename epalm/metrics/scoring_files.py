"""A file of predictions against a file of references: anyone's, from any model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from epalm.errors import ConfigError, DataError
from epalm.metrics.accuracy import FEWEST_ANSWERS
from epalm.metrics.caption_metrics import CAPTION_METRICS, computable, describe_left_out
from epalm.metrics.result_files import References, read_predictions, read_references
from epalm.metrics.split_scores import SplitScores, score_split

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
        content = self.scores.as_dict()
        if self.left_out:
            content["not_scored"] = dict(self.left_out)
        if self.passed_over:
            content["passed_over"] = self.passed_over
        return content

    def as_text(self) -> str:
        """Rows, then a line for each score, then what was left out."""
        missing = [describe_left_out(self.left_out)] if self.left_out else []
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
        predictions: see `epalm.metrics.result_files`.
        references: the same.
        names: of metrics; without, those that suit the references, but for those that cannot be computed here.
        only_predicted: score only what is predicted, such as the 5,000 pictures of a test split whose references lie
            in the file of a larger one.
        tokenizer: what captions are cut with, see `choose_tokenizer`.

    Raises:
        ConfigError: a metric is unknown or cannot be computed here, or the references do not tell which suit them.
        DataError: a file cannot be read, or the two do not match.
    """
    every_prediction, expected = read_predictions(predictions), read_references(references)
    predicted = {row: text for row, text in every_prediction.items() if row not in expected.passed_over}
    _check_match(predictions, references, predicted, expected, only_predicted)
    rows = [row for row in expected.texts if row in predicted]
    metrics, left_out = (tuple(names), {}) if names else computable(_usual(references, expected, rows))
    scores = score_split(
        metrics,
        [predicted[row] for row in rows],
        [expected.texts[row] for row in rows],
        groups=[expected.groups.get(row, {}) for row in rows],
        ids=rows,
        tokenizer=tokenizer,
    )
    return FileScores(scores, left_out, len(every_prediction) - len(predicted))


def _usual(path: Path, expected: References, rows: Sequence[str]) -> tuple[str, ...]:
    if expected.kind is None:
        raise ConfigError(f"{path}: does not tell whether it holds captions or answers; name a --metric")
    if expected.kind == "captions":
        return CAPTION_METRICS
    scored = all(isinstance(expected.texts[row], dict) or len(expected.texts[row]) >= FEWEST_ANSWERS for row in rows)
    return ("vqa_accuracy",) if scored else ("exact_match",)


def _check_match(
    predictions: Path, references: Path, predicted: Mapping[str, str], expected: References, only_predicted: bool
) -> None:
    unexpected = [row for row in predicted if row not in expected.texts]
    if unexpected:
        raise DataError(
            f"{predictions}: {len(unexpected)} of {len(predicted)} ids are not in {references}: {_first(unexpected)}"
        )
    unpredicted = [row for row in expected.texts if row not in predicted]
    if unpredicted and not only_predicted:
        raise DataError(
            f"{predictions}: lacks {len(unpredicted)} of {len(expected.texts)} ids of {references}: "
            f"{_first(unpredicted)}; predict them, or score what is there with --only-predicted"
        )


def _first(rows: Sequence[str]) -> str:
    return ", ".join(rows[:_MOST_NAMED]) + (", ..." if len(rows) > _MOST_NAMED else "")
