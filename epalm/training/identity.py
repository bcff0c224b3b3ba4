"""What decides the numbers of a run: by this a run that is gone on with is known to be the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from epalm.data.rows import Row
from epalm.models import PerceptualLM
from epalm.recipe import Recipe
from epalm.tasks.template import FORMER_TEXT
from epalm.training.views import VIEW_SETTINGS

_NO_MATTER = (
    ("model", "device"),
    ("model", "shard"),
    ("training", "accumulation"),
    ("training", "checkpoint_every"),
    ("training", "report_to"),
)
"""Settings that change how a run is carried out, and not what it comes to."""
_FORMER_TRAINING: dict[str, Any] = {
    "batch_size": 32,
    "connector_init_scale": 1.0,
    "feature_dropout": 0.0,
    "learning_rate": 1e-3,
    "min_epochs": 8.0,
    "min_steps": 1,
    "warmup": 0.05,
    "weight_decay": 0.02,
}
"""What was done before there were these settings, or what their defaults were."""
_FORMER = {f"text.{name}": value for name, value in FORMER_TEXT.items()} | {
    f"training.{name}": value for name, value in _FORMER_TRAINING.items()
}


def run_identity(
    recipe: Recipe, model: PerceptualLM, rows: Sequence[Row], to_score: Sequence[Row] = ()
) -> dict[str, Any]:
    """What decides the numbers of a run, by dotted name: a run with other values is another one."""
    groups = recipe.model_dump(mode="json", include={"model", "adapter", "text", "training"})
    groups["data"] = recipe.data.model_dump(mode="json", include={*VIEW_SETTINGS, "features", "store_dtype", "holdout"})
    for group, name in _NO_MATTER:
        del groups[group][name]
    dtype = next(model.language_model.parameters()).dtype
    groups["model"]["torch_dtype"] = str(dtype).removeprefix("torch.")
    card = model.card()
    groups["model"]["weights"] = {"language model": card.language_model.fingerprint} | {
        name: encoder.fingerprint for name, encoder in card.encoders.items()
    }
    groups["data"]["rows"] = digest_of(rows)
    if recipe.chooses:  # what is scored decides which adapter stays
        groups["data"]["rows to score"] = digest_of(to_score)
        groups["generation"] = recipe.generation.model_dump(mode="json", exclude={"batch_size"})
    return {f"{group}.{name}": value for group, settings in groups.items() for name, value in settings.items()}


def former_values() -> dict[str, Any]:
    """What a setting counts as in a checkpoint that does not name it, by dotted name.

    There was no such setting when the checkpoint was written, and its default does what was done then, unless `_FORMER`
    says otherwise.
    """
    groups = Recipe().model_dump(mode="json", include={"model", "adapter", "text", "data", "training", "generation"})
    values = {f"{group}.{name}": value for group, settings in groups.items() for name, value in settings.items()}
    return values | _FORMER


def as_begun(recipe: Recipe, begun_with: Mapping[str, Any]) -> Recipe:
    """The recipe of a run that is gone on with, in the way it was begun.

    A setting may have come to do otherwise than what was done before there was any, or its default may have changed
    (`_FORMER`). Where `recipe` leaves it open and the run began in the former way, it goes on so. One that is set in
    `recipe` stays, and if it is another, the checkpoint will not be gone on from.

    Args:
        recipe: as it is read today.
        begun_with: the identity of the run; empty: there is none.
    """
    if not begun_with:
        return recipe
    groups = {}
    for name, group, former in (("text", recipe.text, FORMER_TEXT), ("training", recipe.training, _FORMER_TRAINING)):
        as_before = {
            field: value for field, value in former.items() if begun_with.get(f"{name}.{field}", value) == value
        }
        groups[name] = group.model_copy(
            update={field: value for field, value in as_before.items() if field not in group.model_fields_set}
        )
    return recipe.model_copy(update=groups)


def digest_of(rows: Sequence[Row]) -> str:
    """Hexadecimal SHA-256 of all that rows teach, or ask, in their order."""
    sha256 = hashlib.sha256()
    for row in rows:
        sha256.update(repr((row.id, sorted(row.media.items()), row.question, row.targets, row.weights)).encode())
    return sha256.hexdigest()
