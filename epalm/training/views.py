"""The views of files that a recipe's training has."""

from __future__ import annotations

from epalm.data.views import Views
from epalm.recipe import Recipe

VIEW_SETTINGS = {"views", "augment", "mask_sounds", "evaluation_frames"}
"""Settings of data that say what is seen of files."""


def training_views(recipe: Recipe) -> Views:
    """Those that `recipe` asks for, drawn by its seed."""
    data = recipe.data
    return Views(data.views, recipe.training.seed, data.augment, data.mask_sounds, data.evaluation_frames)
