"""Scores of an adapter over a whole split, task by task, with every prediction kept."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from epalm.data.file_features import OnProgress
from epalm.data.rows import Row, TaskName
from epalm.errors import DataError
from epalm.evaluation.answerer import Answerer
from epalm.evaluation.perception_gain import PERCEPTION_GAIN, PerceptionGain, measure_perception
from epalm.metrics import SplitScores, computable, describe_left_out, score_split
from epalm.metrics.result_files import format_results
from epalm.runtime.outputs import write_whole
from epalm.runtime.processes import all_processes, divide_work
from epalm.tasks.admission import name_of

_FEW_GROUPS = 8
"""So many scores of one kind of groups are told in text; there may be dozens."""


@dataclass(frozen=True)
class Prediction:
    """What was said of one row."""

    row: Row
    text: str

    def as_dict(self) -> dict[str, Any]:
        """The row's id, its question, what was said, and what would be right."""
        return {
            "id": self.row.id,
            **{modality: str(path) for modality, path in self.row.media.items()},
            **({"question": self.row.question} if self.row.question is not None else {}),
            "prediction": self.text,
            "references": list(self.row.targets),
        }


@dataclass(frozen=True)
class Evaluation:
    """Scores by task and metric, and the predictions they were computed from."""

    splits: dict[TaskName, SplitScores]
    predictions: tuple[Prediction, ...]
    seconds: float
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Usual metrics that were not computed -> why, and what to do."""
    perception: PerceptionGain | None = None
    """What perception is worth, where it was measured."""

    @property
    def scores(self) -> dict[TaskName, dict[str, float]]:
        """The bare scores by task and metric."""
        return {task: split.values for task, split in self.splits.items()}

    def rows_of(self, task: TaskName) -> list[Prediction]:
        """The predictions of one task."""
        return [prediction for prediction in self.predictions if prediction.row.task == task]

    def as_dict(self) -> dict[str, Any]:
        """Bare scores, rows and seconds, then each task's scores with intervals and groups, for JSON."""
        return {
            "scores": self.scores,
            "rows": self._rows(),
            "seconds": round(self.seconds, 2),
            "details": {task: split.as_dict() for task, split in self.splits.items()},
            **({PERCEPTION_GAIN: self.perception.as_dict()} if self.perception else {}),
            **({"not_scored": dict(self.left_out)} if self.left_out else {}),
        }

    def as_text(self) -> str:
        """A line for each task and kind of groups in it, what was not scored, what intervals are, notes, perception."""
        lines: list[str] = []
        for task, rows in self._rows().items():
            lines.append(f"{task} ({rows} rows): {self._scores_text(task)}")
            lines += _group_lines(self.splits[task]) if task in self.splits else []
        if self.left_out:
            lines.append(describe_left_out(self.left_out))
        if self.splits:
            lines.append("in brackets: bootstrap 95 % intervals")
        lines += [f"note on {task}: {note}" for task, split in self.splits.items() for note in split.notes]
        lines += [self.perception.as_text()] if self.perception else []
        return "\n".join(lines)

    def _rows(self) -> dict[TaskName, int]:
        return dict(Counter(prediction.row.task for prediction in self.predictions))

    def _scores_text(self, task: TaskName) -> str:
        split = self.splits.get(task)
        if split is None:
            return "not scored, its rows have no answers"
        scores = ", ".join(f"{name} {score}" for name, score in split.overall.items())
        return scores if split.tokenizer is None else f"{scores}; tokeniser: {split.tokenizer}"

    def write_predictions(self, path: Path, results: str | None = None) -> None:
        """Write every prediction, in the order of the rows; an older file is replaced at once or not at all.

        Args:
            path: the file.
            results: the format of an evaluation server, see `epalm.metrics.result_files`; without, one JSON object a
                line.

        Raises:
            ConfigError: the file cannot be written, or there is no such format.
        """
        lines = (json.dumps(prediction.as_dict(), ensure_ascii=False) + "\n" for prediction in self.predictions)
        if results is not None:
            text = format_results(results, ((prediction.row.id, prediction.text) for prediction in self.predictions))
            lines = (line for line in (text, "\n"))
        write_whole(path, lines, "predictions")


def score_rows(
    answerer: Answerer,
    rows: Sequence[Row],
    on_progress: OnProgress | None = None,
    where: str = "",
    *,
    java: bool = True,
    perception: bool = True,
) -> Evaluation:
    """Answer every row and score each task by the metrics that suit it; several processes share the work.

    Of a task whose rows have no answers at all, such as a test split, there are predictions and no scores.

    Args:
        answerer: what is scored.
        rows: what it is scored on.
        on_progress: told of perceiving, answering and measuring.
        where: the manifest, for messages.
        java: whether captions are scored by Java programs as well, which take seconds to start. Without, METEOR, SPICE
            and SPIDEr are left out, and captions are cut by this package's own tokeniser.
        perception: whether to measure what perception is worth, see `epalm.evaluation.perception_gain`.

    Raises:
        DataError: there are no rows, some rows of a task have answers and some have none, or a row cannot be answered.
        MediaError: a file cannot be read.
    """
    if not rows:
        raise DataError("evaluation: there are no rows to score")
    scored = _scored_tasks(rows, where)
    started = time.perf_counter()
    answerer.check(rows, where)
    answerer = answerer.keeping_features()
    answerer.perceive(rows, on_progress)
    if answerer.answers_together:
        texts = answerer.answer(rows, on_progress, where)
    else:
        texts = divide_work(rows, lambda share: answerer.answer(share, on_progress, where) if share else [])
    predictions = tuple(Prediction(row, text) for row, text in zip(rows, texts, strict=True))
    # A Java program takes gigabytes: one process runs it, and tells the others.
    own = all_processes()
    splits, left_out = own.share(_scores(answerer, predictions, scored, java) if own.rank == 0 else ({}, {}))[0]
    gain = measure_perception(answerer, rows, on_progress) if perception and scored else None
    if isinstance(gain, str):
        left_out, gain = {**left_out, PERCEPTION_GAIN: gain}, None
    return Evaluation(splits, predictions, time.perf_counter() - started, left_out, gain)


def _scores(
    answerer: Answerer, predictions: Sequence[Prediction], tasks: Sequence[TaskName], java: bool
) -> tuple[dict[TaskName, SplitScores], dict[str, str]]:
    """Scores of each task, and the metrics that were left out, with the reasons."""
    splits: dict[TaskName, SplitScores] = {}
    left_out: dict[str, str] = {}
    for name in tasks:
        task, answered = answerer.tasks[name], [each for each in predictions if each.row.task == name]
        metrics, missing = computable(task.metrics_for([prediction.row for prediction in answered]), java=java)
        left_out |= missing
        splits[name] = score_split(
            metrics,
            [prediction.text for prediction in answered],
            [task.references(prediction.row) for prediction in answered],
            groups=[prediction.row.groups for prediction in answered],
            ids=[prediction.row.id or str(place) for place, prediction in enumerate(answered, start=1)],
            tokenizer="auto" if java else "python",
        )
    return splits, left_out


def _group_lines(split: SplitScores) -> list[str]:
    """A line for each kind of groups: the headline of every group, or how many there are."""
    lines = []
    for kind, groups in split.groups.items():
        headlines = [f"{name} {next(iter(scores.values())).value:.2f}" for name, scores in groups.items()]
        text = ", ".join(headlines) if len(headlines) <= _FEW_GROUPS else f"{len(headlines)}, told in JSON"
        lines.append(f"  by {kind}: {text}")
    return lines


def _scored_tasks(rows: Sequence[Row], where: str) -> list[TaskName]:
    """The tasks whose rows all have answers."""
    tasks = dict.fromkeys(row.task for row in rows)
    with_answers = {row.task for row in rows if row.targets}
    for row in rows:
        if row.task in with_answers and not row.targets:
            raise DataError(
                f"{name_of(row, where)}: has no answer or caption, but other rows have; give it one, or none to all"
            )
    return [task for task in tasks if task in with_answers]
