"""Scores of an adapter over a whole split, task by task, with every prediction kept."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epalm.data.features import OnProgress
from epalm.data.rows import Row, TaskName
from epalm.errors import DataError
from epalm.evaluation.answerer import Answerer
from epalm.metrics import score


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

    scores: dict[TaskName, dict[str, float]]
    predictions: tuple[Prediction, ...]
    seconds: float

    def rows_of(self, task: TaskName) -> list[Prediction]:
        """The predictions of one task."""
        return [prediction for prediction in self.predictions if prediction.row.task == task]

    def as_dict(self) -> dict[str, Any]:
        """Scores, rows and seconds, for JSON."""
        return {
            "scores": self.scores,
            "rows": {task: len(self.rows_of(task)) for task in self.scores},
            "seconds": round(self.seconds, 2),
        }

    def as_text(self) -> str:
        """One line a task."""
        return "\n".join(
            f"{task} ({len(self.rows_of(task))} rows): "
            + ", ".join(f"{name} {value:.2f}" for name, value in scores.items())
            for task, scores in self.scores.items()
        )

    def write_predictions(self, path: Path) -> None:
        """One JSON object a line, in the order of the rows; an older file is replaced at once or not at all.

        Raises:
            DataError: the file cannot be written.
        """
        beside = path.with_name(path.name + ".part")
        try:
            lines = (json.dumps(prediction.as_dict(), ensure_ascii=False) + "\n" for prediction in self.predictions)
            with beside.open("w", encoding="utf-8") as file:
                file.writelines(lines)
            beside.replace(path)
        except OSError as error:
            raise DataError(f"{path}: predictions cannot be written: {error.strerror}") from None


def score_rows(answerer: Answerer, rows: Sequence[Row], on_progress: OnProgress | None = None) -> Evaluation:
    """Answer every row and score each task by the metrics that suit it.

    Raises:
        DataError: there are no rows, or a row has no reference.
        MediaError: a file cannot be read.
    """
    if not rows:
        raise DataError("evaluation: there are no rows to score")
    started = time.perf_counter()
    texts = answerer.answer(rows, on_progress)
    predictions = tuple(Prediction(row, text) for row, text in zip(rows, texts, strict=True))
    scores: dict[TaskName, dict[str, float]] = {}
    for task in dict.fromkeys(row.task for row in rows):
        asked = [prediction for prediction in predictions if prediction.row.task == task]
        names = answerer.tasks[task].metrics_for([prediction.row for prediction in asked])
        references = [answerer.tasks[task].references(prediction.row) for prediction in asked]
        scores[task] = score(names, [prediction.text for prediction in asked], references)
    return Evaluation(scores, predictions, time.perf_counter() - started)
