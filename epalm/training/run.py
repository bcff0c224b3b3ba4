"""A whole run of a recipe: check, build, perceive, train, save, and score."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from epalm.data.file_features import OnProgress, PerceivedFiles
from epalm.data.rows import Row
from epalm.data.store import default_place
from epalm.errors import ConfigError
from epalm.evaluation import Answerer, Evaluation, score_rows
from epalm.evaluation.loading import SAVED_GROUPS
from epalm.evaluation.perceiving import perceived_files, ready_cards
from epalm.evaluation.record import remove_evaluation, write_evaluation
from epalm.models import PerceptualLM
from epalm.models.summary import Summary
from epalm.recipe import PublishedScores, Recipe
from epalm.runtime.notices import OnWarning
from epalm.runtime.processes import (
    is_main_process,
    own_device,
    require_own_devices,
    require_plain_launch,
    wait_for_everyone,
)
from epalm.runtime.torch_defaults import torch_defaults
from epalm.tasks import Tasks
from epalm.tasks.admission import count_embeddings
from epalm.training.checkpoints import Checkpoints
from epalm.training.checks import check_rows, check_settings
from epalm.training.holdout import set_aside, with_metric
from epalm.training.identity import as_begun, digest_of, former_values, run_identity
from epalm.training.loop import TrainingLog, train
from epalm.training.output import CHECKPOINTS, LOGS, named_output, require_resumable, require_writable
from epalm.training.published import comparison_line
from epalm.training.rows import require_learned, require_rows, training_rows, validation_rows
from epalm.training.scores import require_metric, score_on_the_way
from epalm.training.selection import Choice
from epalm.training.skipping import Skipped, without_bad_media
from epalm.training.trackers import require_trackers
from epalm.training.views import training_views


@dataclass(frozen=True)
class RunResult:
    """What came of a run."""

    output: Path
    log: TrainingLog
    summary: Summary
    skipped: Skipped
    """Rows left out because of files that cannot be read."""
    evaluation: Evaluation | None
    """Scores on the validation rows, where there are some."""
    choice: Choice | None = None
    """Which adapter was kept, where the best one was chosen."""
    notes: tuple[str, ...] = ()
    """What was found of published data."""
    published: PublishedScores = field(default_factory=PublishedScores)
    """What others reported."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        losses = self.log.smoothed()
        return {
            "output": str(self.output),
            "steps": len(losses),
            "first_loss": losses[0],
            "last_loss": losses[-1],
            "seconds": round(self.log.seconds, 2),
            "trained_parameters": self.summary.trained,
            "trained_share": self.summary.share,
            **({} if self.log.changed else {"unchanged": True}),
            **({"choice": {**self.choice.as_dict(), "scores": self.log.scores}} if self.choice else {}),
            **({"skipped": self.skipped.as_dict()} if self.skipped.rows else {}),
            **({"data": list(self.notes)} if self.notes else {}),
            **({"validation": self.evaluation.as_dict()} if self.evaluation else {}),
            **({"published": self.published.model_dump()} if self.published.scores else {}),
        }

    def as_text(self) -> str:
        """For people."""
        losses = self.log.smoothed()
        lines = [
            str(self.summary),
            f"{len(losses)} steps in {self.log.seconds:.0f} s; loss {losses[0]:.3f} -> {losses[-1]:.3f}",
            *([self.choice.as_text()] if self.choice else []),
            *([self.skipped.as_text()] if self.skipped.rows else []),
            *self.notes,
            *([self.evaluation.as_text()] if self.evaluation else []),
            *([comparison_line(self.published, self.evaluation)] if self.evaluation and self.published.scores else []),
            f"adapter written to {self.output}{', its predictions and scores beside it' if self.evaluation else ''}",
        ]
        return "\n".join(lines)


@torch_defaults()
def run_recipe(
    recipe: Recipe,
    on_progress: OnProgress | None = None,
    *,
    resume: bool = False,
    on_warning: OnWarning | None = None,
    java: bool = True,
) -> RunResult:
    """Train the recipe's adapter, write it to `recipe.output`, and score it on `data.validation`.

    With `data.holdout` it is chosen by files of the training data that nothing is learned from.

    All data are checked before anything is trained. Before training has ended nothing is written but checkpoints, in
    `output/checkpoints`, which are taken away when the adapter is there. Predictions and scores are written beside it.

    Args:
        recipe: the settings.
        on_progress: told of everything that takes time.
        resume: go on with the run that was stopped in `output`.
        on_warning: told of damaged checkpoints, of what is odd about the language model's end tokens, and of a run that
            has changed nothing; unset: Python's `warnings`.
        java: whether the scores in the end may start Java programs; those on the way do only where `training.metric`
            takes one.

    Raises:
        AdapterError: the adapter or a checkpoint cannot be written.
        ConfigError: training data or `output` are missing or cannot be used, a backbone is wrong, or there is an
            unfinished run and `resume` is not asked for, or the other way round; or the processes were not launched
            as they must be; or gradients are beyond float16's range.
        DataError: a manifest is wrong, or a row does not suit the backbones; rows are named by number. Or a loss is not
            a finite number.
        MediaError: a file cannot be read, and must not be skipped, or too many cannot.
        TrainingStopped: Ctrl-C or SIGTERM ended the run in order.
        UnsupportedModelError: a backbone cannot be served.
    """
    require_plain_launch()
    require_own_devices(recipe.model.device)
    require_rows(recipe.data)
    output = named_output(recipe.output)
    if is_main_process():  # trying whether it can be written, processes would be in each other's way
        require_writable(output)
    wait_for_everyone()
    require_resumable(output, resume)
    require_trackers(recipe.training.report_to)
    checkpoints = Checkpoints(output / CHECKPOINTS, former=former_values())
    recipe = as_begun(recipe, checkpoints.begun_with())
    skip_bad = recipe.data.on_bad_media == "skip"
    perceives = recipe.perceives if recipe.adapter.connector != "none" else ()
    training, validation = training_rows(recipe.data, perceives), validation_rows(recipe.data, perceives)
    all_rows, to_score = training.rows, list(validation.rows)
    training, held_out = set_aside(training, recipe)
    recipe = with_metric(recipe)
    rows, choosing = list(training.rows), validation if recipe.data.holdout is None else held_out
    if recipe.chooses and not choosing.rows:
        raise ConfigError(
            "training.validate_every: there are no rows to score; give "
            "--data.validation ROWS.jsonl, or --data.holdout 0.1"
        )
    model = load_model(recipe, on_warning)
    check_settings(model, recipe.training)
    if not recipe.training.start_from:
        require_learned(perceives, training)
    identity = run_identity(recipe, model, rows, choosing.rows)
    checkpoints = replace(checkpoints, identity=identity)
    checkpoints.newest()  # of another run it is refused now, and not when everything has been perceived
    views = training_views(recipe)
    perceived = perceived_files(model, recipe.data, views=views, skip_bad=skip_bad, place=default_place())
    answerer = Answerer(model, recipe.text, recipe.generation, perceived, recipe.data)
    check_rows(answerer.tasks.expand(all_rows), answerer.tasks, model, training.where)
    answerer.check(to_score, validation.where)
    if recipe.chooses:
        require_metric(recipe.training.metric, answerer, choosing)
    perceived.perceive([row.media for row in to_score], on_progress)
    perceived.perceive([row.media for row in held_out.rows], on_progress, held_out=True)
    perceived.perceive([row.media for row in rows], on_progress, training=True)
    most_bad = recipe.data.most_bad_media
    rows, held, skipped = without_bad_media(rows, perceived, most_bad, training.where, held_out=held_out.rows)
    if len(held) < len(held_out.rows):
        choosing = replace(held_out, rows=tuple(held))
        require_metric(recipe.training.metric, answerer, choosing)
    left_out = f"{skipped.rows} ({digest_of([*rows, *held])[:8]})"  # a mended file would give every batch other rows
    checkpoints = replace(checkpoints, identity={**identity, "data.rows left out": left_out})
    score = partial(score_on_the_way, answerer, choosing, recipe.training.metric, on_progress)
    log = train_on(
        model,
        rows,
        recipe,
        perceived,
        on_progress,
        checkpoints=checkpoints,
        score=score if recipe.chooses else None,
        on_warning=on_warning,
        log_directory=output / LOGS,
        where=training.where,
    )
    choice = Choice.of(log.scores, log.chosen_step, recipe, choosing.rows)
    if is_main_process():
        model.save_pretrained(output, _metadata(recipe, rows, choice))
        remove_evaluation(output)  # of an earlier adapter
        checkpoints.clear()
    wait_for_everyone()
    evaluation = None
    if to_score:
        evaluation = score_rows(answerer, to_score, on_progress, validation.where, java=java)
        if is_main_process():
            write_evaluation(output, evaluation, answerer, str(output), validation.where, validation.files)
    notes = training.notes + validation.notes
    return RunResult(output, log, model.summary(), skipped, evaluation, choice, notes, recipe.published)


@torch_defaults()
def load_model(recipe: Recipe, on_warning: OnWarning | None = None) -> PerceptualLM:
    """The model of a recipe as training begins, seeded.

    Args:
        recipe: the settings.
        on_warning: see `PerceptualLM.build`.

    Raises:
        AdapterError: one to start from is damaged or does not fit.
        ConfigError: a backbone or a setting is wrong.
        UnsupportedModelError: a backbone cannot be served.
    """
    torch.manual_seed(recipe.training.seed)
    model = PerceptualLM.build(
        recipe.model.language_model,
        recipe.model.encoders,
        recipe.adapter,
        ready_features=ready_cards(recipe.data.features),
        torch_dtype=recipe.model.dtype(),
        device=own_device(recipe.model.device_or_best()),
        attn_implementation=recipe.model.attn_implementation,
        quantization=recipe.model.quantization,
        shard=recipe.model.shard,
        frames=recipe.model.frames,
        long_sounds=recipe.model.long_sounds,
        statistics=recipe.model.statistics,
        on_warning=on_warning,
    )
    model.perception.mechanism.scale_start(recipe.training.connector_init_scale)
    if recipe.training.start_from:
        model.start_from(*recipe.training.start_from)
    return model


def train_on(
    model: PerceptualLM,
    rows: Sequence[Row],
    recipe: Recipe,
    perceived: PerceivedFiles,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> TrainingLog:
    """Train `model` on `rows` as the recipe says; every caption counts as a row of its own.

    `options` are those of `train`: checkpoints, scores on the way, warnings.
    """
    tasks = Tasks(model.tokenizer, recipe.text, count_embeddings(model))
    expanded = tasks.expand(rows)
    batch = min(recipe.training.batch_size, len(expanded))
    return train(
        model,
        expanded,
        tasks,
        recipe.training,
        perceived=perceived,
        on_progress=on_progress,
        on_step=TrainingProgress(on_progress, batch) if on_progress else None,
        **options,
    )


class TrainingProgress:
    """Tells of every step: the loss, smoothed, and rows a second.

    Args:
        on_progress: whom.
        batch_size: rows a step.
    """

    def __init__(self, on_progress: OnProgress, batch_size: int) -> None:
        self.on_progress, self.batch_size = on_progress, batch_size
        self.started, self.steps, self.smoothed = time.perf_counter(), 0, math.nan

    def __call__(self, step: int, steps: int, loss: float) -> None:
        """After every step."""
        self.steps += 1
        self.smoothed = loss if math.isnan(self.smoothed) else 0.95 * self.smoothed + 0.05 * loss
        rate = self.batch_size * self.steps / max(1e-9, time.perf_counter() - self.started)
        self.on_progress(f"training: loss {self.smoothed:.3f}, {rate:.0f} rows/s", step, steps)


def _metadata(recipe: Recipe, rows: Sequence[Row], choice: Choice | None) -> dict[str, Any]:
    """What the adapter keeps of its recipe: what it takes to answer as it was trained, and how it was trained."""
    settings = recipe.model_dump(mode="json", include={*SAVED_GROUPS, "training"})
    # The card describes the backbones; devices and processes are anybody's own.
    for name in (
        "language_model",
        "encoders",
        "frames",
        "long_sounds",
        "quantization",
        "statistics",
        "device",
        "shard",
    ):
        del settings["model"][name]
    del settings["generation"]["answers"], settings["generation"]["rank_top_k"]  # a file on this machine
    chosen = {"choice": choice.as_dict()} if choice else {}
    return {**settings, "tasks": sorted({row.task for row in rows}), "rows": len(rows), **chosen}
