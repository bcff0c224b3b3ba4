"""A recipe: everything that a run needs, as one YAML file, one object and one set of command-line options.

Relative paths in a recipe file start at that file, as those in a manifest start at the manifest; relative paths on the
command line start where one stands. A backbone is a path where a directory of that name is there, else a hub id.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import model_validator

from epalm.data.rows import MODALITIES
from epalm.errors import ConfigError
from epalm.recipe.groups import (
    DataSettings,
    GenerationSettings,
    ModelSettings,
    PublishedScores,
    TrainingSettings,
)
from epalm.recipe.paths import settle_paths
from epalm.settings import AdapterConfig, Settings, read_yaml
from epalm.settings.names import find_setting
from epalm.settings.nearest import nearest
from epalm.tasks import TextTemplate

RECIPES = Path(__file__).parents[1] / "recipes"


class Recipe(Settings):
    """A whole run."""

    model: ModelSettings = ModelSettings()
    """The frozen backbones."""
    adapter: AdapterConfig = AdapterConfig()
    """What is trained, and where it enters."""
    text: TextTemplate = TextTemplate()
    """How questions, answers and captions are written."""
    data: DataSettings = DataSettings()
    """Training data, and the rows that are scored."""
    training: TrainingSettings = TrainingSettings()
    """The optimisation."""
    generation: GenerationSettings = GenerationSettings()
    """How answers are generated."""
    published: PublishedScores = PublishedScores()
    """Scores that were reported, to be told beside the run's own."""
    output: Path | None = None
    """Directory the adapter is written to; it must not exist yet, or be empty, or hold an earlier adapter."""

    @model_validator(mode="before")
    @classmethod
    def _no_encoder_unless_named(cls, values: Any) -> Any:
        """Where there are ready features, the default encoder steps back."""
        groups = values if isinstance(values, Mapping) else {}
        data, model = groups.get("data"), groups.get("model", {})
        if isinstance(data, Mapping) and data.get("features") and isinstance(model, Mapping):
            return {**groups, "model": {"encoders": {}, **model}}
        return values

    @property
    def perceives(self) -> tuple[str, ...]:
        """Modalities that have an encoder or ready features."""
        return (*self.model.encoders, *self.data.features)

    @property
    def chooses(self) -> bool:
        """Whether the adapter is scored on the way, and the best one stays."""
        return self.training.validate_every is not None or self.data.holdout is not None

    @model_validator(mode="after")
    def _scores_are_taken(self) -> Recipe:
        if not self.chooses and (self.training.patience is not None or self.training.metric is not None):
            raise ValueError(
                "training.patience and training.metric choose among scores taken on the way; set "
                "training.validate_every or data.holdout, too"
            )
        return self

    @model_validator(mode="after")
    def _features_or_encoder(self) -> Recipe:
        for name, group in (("model.encoders", self.model.encoders), ("data.features", self.data.features)):
            for modality in group:
                if modality not in MODALITIES:
                    raise ValueError(f"{name}: '{modality}' is none of {', '.join(MODALITIES)}")
        for modality in self.data.features:
            if modality in self.model.encoders:
                raise ValueError(
                    f"data.features.{modality}: there is an encoder for it as well (model.encoders); leave one out"
                )
        return self

    @model_validator(mode="after")
    def _views_differ(self) -> Recipe:
        perceives = set(self.model.encoders)
        if self.data.views != 1 and self.data.features and not perceives:
            raise ValueError("data.views: ready features have one view; leave it out")
        if self.data.augment != "none" and "image" not in perceives:
            raise ValueError("data.augment is for pictures, and there is no image encoder; leave it out")
        if self.data.mask_sounds and "audio" not in perceives:
            raise ValueError("data.mask_sounds is for sounds, and there is no audio encoder; leave it out")
        if self.data.views != 1 and self.data.augment == "none" and perceives == {"image"}:
            raise ValueError("data.views: a picture has one view unless data.augment makes others; set it, too")
        return self


def read_recipe(source: str | Path | None, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe in a YAML file, or the one of that name that comes with the package, with settings changed.

    Args:
        source: a path, or a name such as `toy_image`; None: all defaults.
        overrides: dotted names -> values, such as {"training.steps": 100}.

    Raises:
        ConfigError: no such recipe, or a setting is wrong.
    """
    if source is None:
        return build_recipe({}, overrides)
    path = _recipe_file(source)
    return build_recipe(settle_paths(read_yaml(path), path.parent), overrides, where=str(path))


def list_recipes() -> dict[str, str]:
    """The recipes that come with the package, and the first line of each, which says what it is."""
    return {
        path.stem: path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()
        for path in sorted(RECIPES.glob("*.yaml"))
    }


def build_recipe(
    values: Mapping[str, Any], overrides: Mapping[str, Any] | None = None, where: str = "settings"
) -> Recipe:
    """A recipe from nested values and dotted ones on top; a length in steps takes the place of one in epochs.

    Raises:
        ConfigError: a setting is wrong; `where` is named if it is among `values`.
    """
    groups = {name: {} if value is None and name != "output" else value for name, value in values.items()}
    recipe = Recipe.build(groups, where)
    if not overrides:
        return recipe
    merged = copy.deepcopy(groups)
    for name, other in (("training.steps", "epochs"), ("training.epochs", "steps")):
        if overrides.get(name) is not None:
            merged.get("training", {}).pop(other, None)
    for dotted, value in overrides.items():
        find_setting(Recipe, dotted)
        _put(merged, dotted.split("."), value)
    return Recipe.build(settle_paths(merged, Path()), "command line")


def _recipe_file(source: str | Path) -> Path:
    """Where the recipe of that path or name is."""
    of_package = {recipe.stem: recipe for recipe in sorted(RECIPES.glob("*.yaml"))}
    if not os.path.isfile(source) and str(source) in of_package:  # noqa: PTH113  Path.is_file raises on long paths
        return of_package[str(source)]
    if not os.path.exists(source):  # noqa: PTH110
        raise ConfigError(
            f"{source}: no such recipe file, and the package has none of that name{nearest(str(source), of_package)}"
        )
    return Path(source)


def _put(values: dict[str, Any], keys: list[str], value: Any) -> None:
    """Set one nested value."""
    *groups, last = keys
    for key in groups:
        values = values.setdefault(key, {})
    values[last] = value
