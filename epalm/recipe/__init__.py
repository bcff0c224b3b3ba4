"""A recipe: everything that a run needs, as one YAML file, one object and one set of command-line options."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from epalm.recipe.groups import (
        DataSettings,
        GenerationSettings,
        ModelSettings,
        PublishedScores,
        TrainingSettings,
    )
    from epalm.recipe.recipe import RECIPES, Recipe, build_recipe, list_recipes, read_recipe

_GROUPS = ("DataSettings", "GenerationSettings", "ModelSettings", "PublishedScores", "TrainingSettings")

__all__ = [
    "RECIPES",
    "DataSettings",
    "GenerationSettings",
    "ModelSettings",
    "PublishedScores",
    "Recipe",
    "TrainingSettings",
    "build_recipe",
    "list_recipes",
    "read_recipe",
]


def __getattr__(name: str) -> Any:
    """Import on first use: settings on the command line are read before torch is needed."""
    if name not in __all__:
        raise AttributeError(f"module 'epalm.recipe' has no attribute '{name}'")
    home = "groups" if name in _GROUPS else "recipe"
    return getattr(importlib.import_module(f"epalm.recipe.{home}"), name)
