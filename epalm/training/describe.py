"""What is in an adapter, or what a recipe would train, without loading a single weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from epalm.errors import ConfigError
from epalm.models import PerceptualLM
from epalm.models.adapter_io import CONFIG_FILE, read_adapter
from epalm.recipe import RECIPES, ModelSettings, read_recipe
from epalm.sources import resolve_source


@dataclass(frozen=True)
class Description:
    """Facts as text and as JSON."""

    text: str
    facts: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return self.facts

    def as_text(self) -> str:
        """For people."""
        return self.text


def describe_source(source: str, overrides: Mapping[str, Any] | None = None) -> Description:
    """Describe an adapter (directory or hub id) or a recipe (file or name of the package's).

    Raises:
        AdapterError: the adapter is damaged.
        ConfigError: the recipe is wrong, or its backbones' configurations are not to be had.
    """
    path = Path(source)
    is_recipe = path.is_file() or (not (path / CONFIG_FILE).is_file() and (RECIPES / f"{source}.yaml").is_file())
    return _describe_recipe(source, overrides) if is_recipe else _describe_adapter(source)


def _describe_adapter(source: str) -> Description:
    saved = read_adapter(source)
    facts = saved.card.model_dump(mode="json")
    facts["tensors"] = {name: list(tensor.shape) for name, tensor in saved.tensors.items()}
    card = saved.card
    lines = [
        f"adapter         {source}",
        f"preset          {card.adapter.preset}",
        f"language model  {card.language_model.source} ({card.language_model.family})",
        *(f"{name} encoder".ljust(16) + f"{encoder.source}" for name, encoder in card.encoders.items()),
        f"window          layers {card.adapter.start} to {card.adapter.end}, {card.adapter.levels} levels",
        f"trained         {card.trained_parameters:,} parameters, {card.trained_share:.4%} of all",
        *(f"  {name:<40} {tuple(tensor.shape)}" for name, tensor in saved.tensors.items()),
    ]
    return Description("\n".join(lines), facts)


def _describe_recipe(source: str, overrides: Mapping[str, Any] | None) -> Description:
    recipe = read_recipe(source, overrides)
    with torch.device("meta"):
        language_model = AutoModelForCausalLM.from_config(_config(recipe.model.language_model))
        encoders = {name: AutoModel.from_config(_config(encoder)) for name, encoder in recipe.model.encoders.items()}
    model = PerceptualLM.build(language_model, _towers(recipe.model, encoders), recipe.adapter)
    summary = model.summary()
    facts = {
        "recipe": recipe.model_dump(mode="json"),
        "trained_parameters": summary.trained,
        "frozen_parameters": summary.frozen,
        "trained_share": summary.share,
    }
    return Description(f"recipe {source}: {recipe.adapter.preset}\n{summary}", facts)


def _towers(settings: ModelSettings, encoders: Mapping[str, Any]) -> dict[str, Any]:
    """Of encoders that come with a text tower the one that perceives."""
    return {name: getattr(encoder, "vision_model", encoder) for name, encoder in encoders.items()}


def _config(source: str) -> Any:
    try:
        return AutoConfig.from_pretrained(resolve_source(source))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{source}: no configuration to be had: {str(error).splitlines()[0]}") from None
