"""A whole run of a recipe: check, build, perceive, train, save, and score."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epalm.data.features import OnProgress, PerceivedFiles
from epalm.data.manifest import read_manifest
from epalm.data.rows import Row
from epalm.errors import ConfigError
from epalm.evaluation import Answerer, Evaluation, score_rows
from epalm.evaluation.answerer import load_model
from epalm.models import PerceptualLM
from epalm.models.adapter_io import CONFIG_FILE
from epalm.models.summary import Summary
from epalm.recipe import Recipe
from epalm.tasks import Tasks
from epalm.training.loop import TrainingLog, train


@dataclass(frozen=True)
class RunResult:
    """What came of a run."""

    output: Path
    log: TrainingLog
    summary: Summary
    evaluation: Evaluation | None
    """Scores on `data.validation`, where that is given."""

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
            **({"validation": self.evaluation.as_dict()} if self.evaluation else {}),
        }

    def as_text(self) -> str:
        """For people."""
        losses = self.log.smoothed()
        lines = [
            str(self.summary),
            f"{len(losses)} steps in {self.log.seconds:.0f} s; loss {losses[0]:.3f} -> {losses[-1]:.3f}",
            *([self.evaluation.as_text()] if self.evaluation else []),
            f"adapter written to {self.output}",
        ]
        return "\n".join(lines)


def run_recipe(recipe: Recipe, on_progress: OnProgress | None = None) -> RunResult:
    """Train the recipe's adapter and write it to `recipe.output`.

    All data are checked before anything is loaded, and `output` is not touched before training has ended.

    Raises:
        ConfigError: `data.train` or `output` is missing or cannot be used, or a backbone is wrong.
        DataError: a manifest is wrong; rows are named by number.
        MediaError: a file cannot be read.
    """
    if recipe.data.train is None:
        raise ConfigError("data.train: no rows to learn from; give --data.train ROWS.jsonl")
    output = _checked_output(recipe.output)
    rows = read_manifest(recipe.data.train)
    validation = read_manifest(recipe.data.validation) if recipe.data.validation is not None else None
    model = load_model(recipe)
    perceived = PerceivedFiles.of_model(model, batch_size=recipe.data.perception_batch, keep=recipe.data.cache_features)
    log = train_on(model, rows, recipe, perceived, on_progress)
    metadata = {
        "text": recipe.text.model_dump(mode="json"),
        "generation": recipe.generation.model_dump(mode="json"),
        "training": recipe.training.model_dump(mode="json"),
        "tasks": sorted({row.task for row in rows}),
        "rows": len(rows),
    }
    model.save_pretrained(output, metadata)
    evaluation = None
    if validation is not None:
        evaluation = score_rows(Answerer(model, recipe.text, recipe.generation, perceived), validation, on_progress)
    return RunResult(output, log, model.summary(), evaluation)


def train_on(
    model: PerceptualLM,
    rows: Sequence[Row],
    recipe: Recipe,
    perceived: PerceivedFiles,
    on_progress: OnProgress | None = None,
) -> TrainingLog:
    """Train `model` on `rows` as the recipe says; every caption counts as a row of its own."""
    tasks = Tasks(model.tokenizer, recipe.text)
    smoothed: list[float] = []

    def on_step(step: int, steps: int, loss: float) -> None:
        smoothed.append(loss if not smoothed else 0.95 * smoothed[-1] + 0.05 * loss)
        if on_progress is not None:
            on_progress(f"training: loss {smoothed[-1]:.3f}", step, steps)

    return train(
        model, tasks.expand(rows), tasks, recipe.training, perceived=perceived, on_progress=on_progress, on_step=on_step
    )


def _checked_output(output: Path | None) -> Path:
    """Where the adapter goes: a new or empty directory, or one that holds an earlier adapter."""
    if output is None:
        raise ConfigError("output: nowhere to write the adapter to; give --output DIR")
    if output.exists() and not output.is_dir():
        raise ConfigError(f"output: {output} is a file; give a directory")
    if output.is_dir() and any(output.iterdir()) and not (output / CONFIG_FILE).is_file():
        raise ConfigError(f"output: {output} holds other files; give a new or empty directory")
    parent = next(folder for folder in (output, *output.absolute().parents) if folder.is_dir())
    if not os.access(parent, os.W_OK):
        raise ConfigError(f"output: {parent} cannot be written to")
    return output
