"""What decides the numbers of a run: by this a run that is gone on with is known to be the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from epalm.data.rows import Row
from epalm.models import PerceptualLM
from epalm.recipe import Recipe
from epalm.training.views import VIEW_SETTINGS

_NO_MATTER = (
    ("model", "device"),
    ("model", "shard"),
    ("training", "accumulation"),
    ("training", "checkpoint_every"),
    ("training", "report_to"),
)
"""Settings that change how a run is carried out, and not what it comes to."""


def run_identity(
    recipe: Recipe, model: PerceptualLM, rows: Sequence[Row], to_score: Sequence[Row] = ()
) -> dict[str, Any]:
    """What decides the numbers of a run, by dotted name: a run with other values is another one."""
    groups = recipe.model_dump(mode="json", include={"model", "adapter", "text", "training"})
    groups["data"] = recipe.data.model_dump(mode="json", include={*VIEW_SETTINGS, "features", "store_dtype"})
    for group, name in _NO_MATTER:
        del groups[group][name]
    dtype = next(model.language_model.parameters()).dtype
    groups["model"]["torch_dtype"] = str(dtype).removeprefix("torch.")
    card = model.card()
    groups["model"]["weights"] = {"language model": card.language_model.fingerprint} | {
        name: encoder.fingerprint for name, encoder in card.encoders.items()
    }
    groups["data"]["rows"] = digest_of(rows)
    if recipe.training.validate_every is not None:  # what is scored decides which adapter stays
        groups["data"]["rows to score"] = digest_of(to_score)
        groups["generation"] = recipe.generation.model_dump(mode="json", exclude={"batch_size"})
    return {f"{group}.{name}": value for group, settings in groups.items() for name, value in settings.items()}


def digest_of(rows: Sequence[Row]) -> str:
    """Hexadecimal SHA-256 of all that rows teach, or ask, in their order."""
    sha256 = hashlib.sha256()
    for row in rows:
        sha256.update(repr((row.id, sorted(row.media.items()), row.question, row.targets, row.weights)).encode())
    return sha256.hexdigest()
