"""A saved adapter -> its model and the settings that it answers with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from epalm.errors import AdapterError, ConfigError
from epalm.models import PerceptualLM
from epalm.models.adapter_io import SavedAdapter, read_adapter
from epalm.recipe import Recipe, build_recipe

SAVED_GROUPS = ("model", "text", "generation")
"""Groups of settings that an adapter keeps, in part or as a whole, so that it answers as it did when it was trained."""
_CHANGEABLE = ("model.", "text.", "generation.", "data.cache_features", "data.perception_batch")


def load_adapter(adapter: str | Path, overrides: Mapping[str, Any] | None = None) -> tuple[PerceptualLM, Recipe]:
    """An adapter on the backbones it names, and the settings it was trained with.

    Args:
        adapter: directory or hub id.
        overrides: dotted settings to change, of `model`, `text` and `generation`, and how files are perceived.

    Raises:
        AdapterError: the adapter is damaged or does not fit its backbones, or those are not there.
        ConfigError: a setting is wrong or has no effect any more, or a backbone cannot be loaded.
        UnsupportedModelError: a backbone cannot be served.
    """
    overrides = overrides or {}
    for name in overrides:
        if not name.startswith(_CHANGEABLE):
            raise ConfigError(f"--{name}: has no effect on an adapter that is trained; leave it out")
    saved = read_adapter(adapter)
    settings = {group: saved.card.metadata[group] for group in SAVED_GROUPS if group in saved.card.metadata}
    recipe = build_recipe(settings, overrides, where=str(adapter))
    replaced = {name.split(".")[1] for name in overrides} & {"language_model", "encoders"}
    _require_backbones(saved, replaced)
    model = PerceptualLM.from_pretrained(
        adapter,
        **{name: getattr(recipe.model, name) for name in replaced},
        torch_dtype=recipe.model.dtype(),
        device=recipe.model.device_or_best(),
        attn_implementation=recipe.model.attn_implementation,
        frames=recipe.model.frames,
        long_sounds=recipe.model.long_sounds,
    )
    return model, recipe


def _require_backbones(saved: SavedAdapter, replaced: set[str]) -> None:
    """See that the directories are there that an adapter names and nobody replaces."""
    named = {"language_model": saved.card.language_model.source}
    named |= {f"encoders.{name}": encoder.source for name, encoder in saved.card.encoders.items()}
    for name, source in named.items():
        if source is None or name.split(".")[0] in replaced:
            continue
        if Path(source).is_absolute() and not Path(source).is_dir():
            raise AdapterError(
                f"{saved.where}: was trained on {source}, which is not there; name another place with --model.{name}"
            )
