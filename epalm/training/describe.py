"""What is in an adapter, or what a recipe would train, without loading a single weight."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from epalm.errors import ConfigError, UnsupportedModelError
from epalm.evaluation.perceiving import ready_cards, ready_stores
from epalm.models import PerceptualLM
from epalm.models.adapter_io import read_adapter
from epalm.models.cards import EncoderCard
from epalm.models.config_check import require_causal
from epalm.models.language_model_files import LanguageModelFiles
from epalm.recipe import RECIPES, Recipe, read_recipe
from epalm.runtime.checkpoint_files import damage, first_damage, not_a_model
from epalm.runtime.loading_errors import explained
from epalm.runtime.sources import resolve_source


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

    Args:
        source: a directory that exists is an adapter; a file, a name that the package has, or one that ends as YAML
            files do, is a recipe; anything else is an adapter on the hub.
        overrides: dotted settings to change, of a recipe.

    Raises:
        AdapterError: the adapter is not there or damaged.
        ConfigError: the recipe is wrong, its backbones' configurations are not to be had, or there are settings to
            change in an adapter.
        UnsupportedModelError: a backbone cannot be served.
    """
    of_package = (RECIPES / f"{source}.yaml").is_file()
    is_recipe = os.path.isfile(source) or of_package or source.endswith((".yaml", ".yml"))  # noqa: PTH113
    if is_recipe and not os.path.isdir(source):  # noqa: PTH112
        return _describe_recipe(source, read_recipe(source, overrides))
    if overrides:
        raise ConfigError(
            f"--{next(iter(overrides))}: {source} is no recipe, and an adapter's settings are fixed; leave it out"
        )
    return _describe_adapter(source)


def _describe_adapter(source: str) -> Description:
    saved = read_adapter(source)
    card = saved.card
    facts = card.model_dump(mode="json")
    facts["tensors"] = {name: list(tensor.shape) for name, tensor in saved.tensors.items()}
    quantization = card.language_model.quantization
    tasks = card.metadata.get("tasks") or "unknown"
    lines = [
        ("adapter", source),
        ("preset", card.adapter.preset),
        ("language model", f"{card.language_model.source or 'live'} ({card.language_model.family})"),
        *([("held in", quantization)] if quantization != "none" else []),
        *((f"{name} encoder", encoder.source or _feature_source(encoder)) for name, encoder in card.encoders.items()),
        *((f"{name} levels", f"{encoder.used_levels}") for name, encoder in card.encoders.items()),
        *(("frames of a clip", f"{encoder.frames}") for encoder in card.encoders.values() if encoder.frames),
        *(("of long sounds", encoder.long_sounds) for encoder in card.encoders.values() if encoder.long_sounds),
        *(
            ("pixels by", f"{encoder.statistics}'s statistics")
            for encoder in card.encoders.values()
            if encoder.statistics
        ),
        *(
            [("window", f"layers {card.adapter.start} to {card.adapter.end} of {card.language_model.layers}")]
            if card.adapter.start is not None
            else []
        ),
        ("learned", " and ".join(map(str, tasks)) if isinstance(tasks, list) else str(tasks)),
        ("trained", f"{card.trained_parameters:,} parameters, {card.trained_share:.4%} of all"),
    ]
    text_lines = [f"{name:<16} {fact}" for name, fact in lines if card.encoders or name != "window"]
    text_lines += [f"  {name:<40} {tuple(tensor.shape)}" for name, tensor in saved.tensors.items()]
    return Description("\n".join(text_lines), facts)


def _describe_recipe(source: str, recipe: Recipe) -> Description:
    perceives = recipe.adapter.connector != "none"
    model = PerceptualLM.build(
        weightless_language_model(recipe.model.language_model, recipe.model.attn_implementation),
        {name: _encoder(encoder) for name, encoder in recipe.model.encoders.items()} if perceives else None,
        recipe.adapter,
        ready_features=ready_cards(recipe.data.features),
        frames=recipe.model.frames,
        long_sounds=recipe.model.long_sounds,
        statistics=recipe.model.statistics,
    )
    ready_stores(model, recipe.data.features)  # what does not fit is refused
    summary = model.summary()
    facts = {
        "recipe": recipe.model_dump(mode="json"),
        "trained_parameters": summary.trained,
        "frozen_parameters": summary.frozen,
        "trained_share": summary.share,
    }
    return Description(f"recipe {source}: {recipe.adapter.preset}\n{summary}", facts)


def _feature_source(encoder: EncoderCard) -> str:
    return f"none: ready features{f' of {encoder.features_by}' if encoder.features_by else ''}"


def weightless_language_model(source: str, attention: str | None = None) -> Any:
    """The language model, without its weights.

    Raises:
        ConfigError: its configuration is not to be had.
        UnsupportedModelError: it is no causal language model.
    """
    config = LanguageModelFiles.find(source, weights=False).config()
    require_causal(config, source)
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    except (ValueError, ImportError) as error:
        raise UnsupportedModelError(f"language model {source}: {' '.join(str(error).split())}") from None


def _encoder(source: str) -> Any:
    """The encoder, without its weights; of a model with several towers the one that perceives."""
    config = _config(source)
    try:
        with torch.device("meta"):
            encoder = AutoModel.from_config(getattr(config, "vision_config", None) or config)
    except (ValueError, ImportError) as error:
        raise UnsupportedModelError(f"encoder {source}: {' '.join(str(error).split())}") from None
    saved = _saved_tensors(Path(resolve_source(source)))
    if saved and getattr(encoder, "pooler", None) is not None and not any("pooler." in name for name in saved):
        encoder.pooler = None  # as when it is loaded: a pooler that was not saved is left out
    return encoder


def _saved_tensors(folder: Path) -> set[str]:
    """Names of the tensors in a local checkpoint; none where that cannot be told."""
    names: set[str] = set()
    for path in folder.glob("*.safetensors"):
        try:
            with safe_open(path, framework="pt") as tensors:
                names |= set(tensors.keys())
        except (OSError, SafetensorError) as error:
            raise ConfigError(f"{path}: {damage(path) or ' '.join(str(error).split())}") from None
    return names


def _config(source: str) -> Any:
    folder = Path(path := resolve_source(source))
    if folder.is_dir() and (reason := not_a_model(folder) or first_damage(folder, ("config.json",), weights=False)):
        raise ConfigError(f"{source}: {reason}")
    with explained(source, path, ConfigError):
        return AutoConfig.from_pretrained(path, trust_remote_code=False)
