"""Building the features of a recipe's rows ahead of training, by one process or many."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from epalm.data.file_features import OnProgress
from epalm.data.store import CachedFeatures, default_place
from epalm.data.store.report import StoreReport, report_on
from epalm.errors import ConfigError
from epalm.evaluation.perceiving import perceived_files
from epalm.models import PerceptualLM
from epalm.models.backbones import load_encoders
from epalm.recipe import Recipe
from epalm.runtime.processes import own_device, require_own_devices
from epalm.runtime.torch_defaults import torch_defaults
from epalm.training.describe import weightless_language_model
from epalm.training.holdout import set_aside
from epalm.training.rows import require_rows, training_rows, validation_rows
from epalm.training.skipping import Skipped, without_bad_media
from epalm.training.views import training_views


@dataclass(frozen=True)
class BuiltFeatures:
    """What was built, or was there already."""

    stores: tuple[StoreReport, ...]
    skipped: Skipped
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "stores": [store.as_dict() for store in self.stores],
            "seconds": round(self.seconds, 2),
            **({"skipped": self.skipped.as_dict()} if self.skipped.rows else {}),
        }

    def as_text(self) -> str:
        """For people."""
        return "\n\n".join(
            [*(store.as_text() for store in self.stores), *([self.skipped.as_text()] if self.skipped.rows else [])]
        )


@torch_defaults()
def build_features(
    recipe: Recipe, on_progress: OnProgress | None = None, *, every_token: bool = False
) -> BuiltFeatures:
    """Have every feature in the store that training on a recipe, and scoring on its validation rows, will ask for.

    The language model is not loaded. Where several processes were launched, all of them must call this.

    Args:
        recipe: the settings.
        on_progress: told of perceiving.
        every_token: store features of every token, (K, N, E), even where training on the recipe asks for (K, E).

    Raises:
        ConfigError: there are no rows, nothing is perceived, nothing is to be stored, or a backbone is wrong; or
            all processes would go to one device.
        DataError: a manifest or a store is wrong.
        MediaError: a file cannot be read, and must not be skipped, or too many cannot.
        UnsupportedModelError: a backbone cannot be served.
    """
    if recipe.data.store is False:
        raise ConfigError("data.store: is false, so nothing would be stored; leave it out, or name a directory")
    if not recipe.model.encoders or recipe.adapter.connector == "none":
        raise ConfigError("model.encoders: there is none, so there is nothing to build")
    require_own_devices(recipe.model.device)
    skip_bad = recipe.data.on_bad_media == "skip"
    if recipe.data.validation is None:
        require_rows(recipe.data)
    training = training_rows(recipe.data, recipe.perceives, require_answers=False)
    training, held_out = set_aside(training, recipe)
    to_score = validation_rows(recipe.data, recipe.perceives, require_answers=False).rows
    dtype = recipe.model.dtype()
    model = PerceptualLM.build(
        weightless_language_model(recipe.model.language_model),
        load_encoders(
            recipe.model.encoders,
            dtype=None if dtype == "auto" else dtype,
            device=own_device(recipe.model.device_or_best()),
            frames=recipe.model.frames,
            long_sounds=recipe.model.long_sounds,
            statistics=recipe.model.statistics,
        ),
        recipe.adapter,
    )
    views = training_views(recipe)
    perceived = perceived_files(
        model, recipe.data, views=views, skip_bad=skip_bad, place=default_place(), every_token=every_token or None
    )
    started = time.perf_counter()
    perceived.perceive([row.media for row in to_score], on_progress)
    perceived.perceive([row.media for row in held_out.rows], on_progress, held_out=True)
    perceived.perceive([row.media for row in training.rows], on_progress, training=True)
    most_bad = recipe.data.most_bad_media
    *_, skipped = without_bad_media(training.rows, perceived, most_bad, training.where, held_out=held_out.rows)
    seconds = time.perf_counter() - started
    stores = [kept.store.folder for kept in perceived.kept.values() if isinstance(kept, CachedFeatures)]
    return BuiltFeatures(tuple(report_on(folder) for folder in stores), skipped, seconds)
