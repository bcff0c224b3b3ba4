"""Scores on the way: by what the best adapter is told, and how good one is."""

from __future__ import annotations

from epalm.data.file_features import OnProgress
from epalm.errors import ConfigError, DataError
from epalm.evaluation import Answerer, measure_perception, score_rows
from epalm.evaluation.perception_gain import LOSS, PERCEPTION_GAIN, measure_loss, why_no_loss, why_not_measured
from epalm.metrics import get_metric
from epalm.training.rows import RowSource


def require_metric(metric: str | None, answerer: Answerer, validation: RowSource) -> None:
    """See that the best adapter can be told, and by `metric` if that was asked for, which can be computed here.

    Raises:
        ConfigError: it cannot be told.
    """
    with_answers = [row for row in validation.rows if row.targets]
    by_task = {task: [row for row in with_answers if row.task == task] for task in {row.task for row in with_answers}}
    metrics = {name for task, rows in by_task.items() for name in answerer.tasks[task].metrics_for(rows)}
    if not metrics:
        raise ConfigError(f"training.metric: no row of {validation.where} has an answer to score by")
    if metric in (LOSS, PERCEPTION_GAIN):
        why_not = why_no_loss if metric == LOSS else why_not_measured
        if (why := why_not(answerer, validation.rows)) is not None:
            raise ConfigError(f"training.metric: {metric} cannot be measured on {validation.where}: {why}")
        return
    if metric is not None and metric not in metrics:
        names = ", ".join(sorted({*metrics, LOSS, PERCEPTION_GAIN}))
        raise ConfigError(f"training.metric: '{metric}' is not among the scores of {validation.where}: {names}")
    if metric is not None and (why := get_metric(metric).why_not()) is not None:
        raise ConfigError(f"training.metric: {metric} cannot be computed here: {why}")


def score_on_the_way(
    answerer: Answerer, validation: RowSource, metric: str | None, on_progress: OnProgress | None
) -> float:
    """The adapter's score now on the rows held out: by the metric that was asked for, else by each task's first.

    Of `loss` less is better, of all else more. Java is started only where the metric takes it, and nothing is generated
    for what is measured without.

    Raises:
        DataError: a loss is not a finite number.
    """
    if metric in (LOSS, PERCEPTION_GAIN):
        measure = measure_loss if metric == LOSS else measure_perception
        measured = measure(answerer, validation.rows, on_progress)
        if isinstance(measured, str):
            raise DataError(f"training.metric: {metric} cannot be measured on {validation.where}: {measured}")
        return measured if isinstance(measured, float) else measured.gain.value
    java = metric is not None and bool(get_metric(metric).jars)
    evaluation = score_rows(answerer, validation.rows, on_progress, validation.where, java=java, perception=False)
    chosen = [
        task[metric] if metric else next(iter(task.values()))
        for task in evaluation.scores.values()
        if not metric or metric in task
    ]
    return sum(chosen) / len(chosen)
