"""A whole run of a recipe: check, build, perceive, train, save, and score."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from epalm.admission import require_perceived
from epalm.data.features import OnProgress, PerceivedFiles
from epalm.data.manifest import read_manifest
from epalm.data.rows import Row
from epalm.data.store import default_place
from epalm.data.views import Views
from epalm.errors import ConfigError
from epalm.evaluation import Answerer, Evaluation, score_rows
from epalm.evaluation.loading import SAVED_GROUPS
from epalm.evaluation.perceiving import perceived_files, ready_cards
from epalm.models import PerceptualLM
from epalm.models.adapter_io import CONFIG_FILE
from epalm.models.summary import Summary
from epalm.recipe import Recipe
from epalm.tasks import Tasks
from epalm.training.loop import TrainingLog, check_rows, train
from epalm.training.skipping import Skipped, without_bad_media


@dataclass(frozen=True)
class RunResult:
    """What came of a run."""

    output: Path
    log: TrainingLog
    summary: Summary
    skipped: Skipped
    """Rows left out because of files that cannot be read."""
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
            **({"skipped": self.skipped.as_dict()} if self.skipped.rows else {}),
            **({"validation": self.evaluation.as_dict()} if self.evaluation else {}),
        }

    def as_text(self) -> str:
        """For people."""
        losses = self.log.smoothed()
        lines = [
            str(self.summary),
            f"{len(losses)} steps in {self.log.seconds:.0f} s; loss {losses[0]:.3f} -> {losses[-1]:.3f}",
            *([self.skipped.as_text()] if self.skipped.rows else []),
            *([self.evaluation.as_text()] if self.evaluation else []),
            f"adapter written to {self.output}",
        ]
        return "\n".join(lines)


def run_recipe(recipe: Recipe, on_progress: OnProgress | None = None) -> RunResult:
    """Train the recipe's adapter, write it to `recipe.output`, and score it on `data.validation`.

    All data are checked before anything is trained, and `output` is not touched before training has ended.

    Raises:
        AdapterError: the adapter cannot be written.
        ConfigError: `data.train` or `output` is missing or cannot be used, or a backbone is wrong.
        DataError: a manifest is wrong, or a row does not suit the backbones; rows are named by number.
        MediaError: a file cannot be read, and must not be skipped, or too many cannot.
        UnsupportedModelError: a backbone cannot be served.
    """
    if recipe.data.train is None:
        raise ConfigError("data.train: no rows to learn from; give --data.train ROWS.jsonl")
    output = _checked_output(recipe.output)
    skip_bad = recipe.data.on_bad_media == "skip"
    # A file that is not there is one more that cannot be read.
    rows = _read(recipe, recipe.data.train, check_media=not skip_bad)
    to_score = _read(recipe, recipe.data.validation)
    model = load_model(recipe)
    views = Views(recipe.data.views, recipe.training.seed, recipe.data.augment)
    perceived = perceived_files(model, recipe.data, views=views, skip_bad=skip_bad, place=default_place())
    answerer = Answerer(model, recipe.text, recipe.generation, perceived)
    check_rows(answerer.tasks.expand(rows), answerer.tasks, model, str(recipe.data.train))
    answerer.check(to_score, str(recipe.data.validation))
    perceived.perceive([row.media for row in to_score], on_progress)
    perceived.perceive([row.media for row in rows], on_progress, training=True)
    rows, skipped = without_bad_media(rows, perceived, recipe.data.most_bad_media, str(recipe.data.train))
    log = train_on(model, rows, recipe, perceived, on_progress)
    model.save_pretrained(output, _metadata(recipe, rows))
    evaluation = None
    if to_score:
        evaluation = score_rows(answerer, to_score, on_progress, str(recipe.data.validation))
    return RunResult(output, log, model.summary(), skipped, evaluation)


def load_model(recipe: Recipe) -> PerceptualLM:
    """The untrained model of a recipe, seeded.

    Raises:
        ConfigError: a backbone or a setting is wrong.
        UnsupportedModelError: a backbone cannot be served.
    """
    torch.manual_seed(recipe.training.seed)
    return PerceptualLM.build(
        recipe.model.language_model,
        recipe.model.encoders,
        recipe.adapter,
        ready_features=ready_cards(recipe.data.features),
        torch_dtype=recipe.model.dtype(),
        device=recipe.model.device_or_best(),
        attn_implementation=recipe.model.attn_implementation,
        frames=recipe.model.frames,
        long_sounds=recipe.model.long_sounds,
    )


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
        model,
        tasks.expand(rows),
        tasks,
        recipe.training,
        perceived=perceived,
        on_progress=on_progress,
        on_step=on_step,
        where=str(recipe.data.train or ""),
    )


def _read(recipe: Recipe, manifest: Path | None, *, check_media: bool = True) -> list[Row]:
    """The rows of a manifest, if there is one, seen to bring something that will be perceived."""
    if manifest is None:
        return []
    # Files whose features are ready need not be there.
    rows = read_manifest(manifest, check_media=check_media and not recipe.data.features)
    if recipe.adapter.connector != "none":
        require_perceived(rows, recipe.perceives, str(manifest))
    return rows


def _metadata(recipe: Recipe, rows: Sequence[Row]) -> dict[str, Any]:
    """What the adapter keeps of its recipe: what it takes to answer as it was trained, and how it was trained."""
    settings = recipe.model_dump(mode="json", include={*SAVED_GROUPS, "training"})
    # The card describes the backbones; a device is anybody's own.
    for name in ("language_model", "encoders", "frames", "long_sounds", "device"):
        del settings["model"][name]
    return {**settings, "tasks": sorted({row.task for row in rows}), "rows": len(rows)}


def _checked_output(output: Path | None) -> Path:
    """Where the adapter goes: a new or empty directory, or one that holds an earlier adapter."""
    if output is None:
        raise ConfigError("output: nowhere to write the adapter to; give --output DIR")
    made: list[Path] = []
    try:
        others = [path.name for path in output.iterdir()] if os.path.isdir(output) else []  # noqa: PTH112
        if others and CONFIG_FILE not in others:
            raise ConfigError(
                f"output: {output} holds other files, such as {min(others)}; give a new or empty directory"
            )
        for folder in (*reversed(output.parents), output):  # made, tried and taken away again
            if not os.path.isdir(folder):  # noqa: PTH112
                folder.mkdir()
                made.append(folder)
        with tempfile.TemporaryDirectory(dir=output, prefix=".epalm-"):
            pass
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(f"output: {error.filename} is there and not a directory; give another") from None
    except OSError as error:
        raise ConfigError(f"output: {output} cannot be written: {error.strerror}") from None
    finally:
        for folder in reversed(made):
            folder.rmdir()
    return output
