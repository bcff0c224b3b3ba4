"""A recipe: everything that a run needs, as one YAML file, one object and one set of command-line options."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, model_validator

from epalm.config import AdapterConfig, Settings, read_yaml
from epalm.errors import ConfigError
from epalm.tasks import TextTemplate

RECIPES = Path(__file__).parent / "recipes"


class ModelSettings(Settings):
    """The frozen backbones."""

    language_model: str = "toyworld/lm"
    """Hub id or local directory of a causal language model, or `toyworld/lm`."""
    encoders: dict[str, str] = Field(default_factory=lambda: {"image": "toyworld/vit"})
    """Modality -> hub id or local directory of its encoder, or `toyworld/vit`."""
    torch_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the frozen weights; trained tensors are always float32."""
    device: str | None = None
    """Such as `cpu` or `cuda:0`; unset: a GPU where there is one."""
    attn_implementation: Literal["eager", "sdpa"] | None = None
    """Attention code of the language model; unset: transformers' choice."""

    def dtype(self) -> torch.dtype:
        """`torch_dtype` as torch has it."""
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[self.torch_dtype]

    def device_or_best(self) -> torch.device:
        """The device that is named, else a GPU, else the CPU.

        Raises:
            ConfigError: there is no such device.
        """
        try:
            device = torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(f"model.device: '{self.device}' cannot be used: {str(error).splitlines()[0]}") from None
        return device


class DataSettings(Settings):
    """What is learned from, and what is measured on."""

    train: Path | None = None
    """JSON Lines manifest of the training rows."""
    validation: Path | None = None
    """JSON Lines manifest that is scored when training has ended."""
    cache_features: bool = True
    """Perceive every file once and keep its features in memory; otherwise anew at every visit."""
    perception_batch: int = Field(default=32, ge=1)
    """Files the encoder perceives at once."""


class TrainingSettings(Settings):
    """How the trained parts are trained: AdamW, linear warm-up, cosine by step."""

    epochs: float | None = Field(default=None, gt=0)
    """Visits to every row; give this or `steps`."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps; give this or `epochs`."""
    batch_size: int = Field(default=32, ge=1)
    """Rows a step."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak rate of connectors and block adapters."""
    prompt_learning_rate: float | None = Field(default=None, gt=0)
    """Peak rate of the soft prompt; unset: as `learning_rate`."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the rate rises to its peak."""
    final_rate: float = Field(default=0.01, ge=0, le=1)
    """What is left of the peak rate at the end."""
    weight_decay: float = Field(default=0.02, ge=0)
    """AdamW's, on the weights of connectors and block adapters."""
    clip: float | None = Field(default=1.0, gt=0)
    """Largest norm of the gradient; null: none."""
    loss_on: Literal["answer", "all"] = "answer"
    """`answer`: answer and end token; `all`: the question as well, as the original did."""
    loss_scale: Literal["mean", "original"] = "mean"
    """`mean` over tokens, or the original 0.1 * sum / batch."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target spread over the vocabulary."""
    seed: int = 0
    """Of initial values, order and drawn answers."""

    @model_validator(mode="after")
    def _one_length(self) -> TrainingSettings:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give epochs or steps, not both")
        return self


class GenerationSettings(Settings):
    """How answers and captions are generated."""

    num_beams: int = Field(default=3, ge=1)
    """Beams; 1 is greedy search."""
    max_new_tokens: int = Field(default=40, ge=1)
    """Longest answer or caption in tokens."""
    batch_size: int = Field(default=32, ge=1)
    """Rows generated at once; answers do not depend on it."""


class Recipe(Settings):
    """A whole run."""

    model: ModelSettings = ModelSettings()
    """The frozen backbones."""
    adapter: AdapterConfig = AdapterConfig()
    """What is trained, and where it enters."""
    text: TextTemplate = TextTemplate()
    """How questions, answers and captions are written."""
    data: DataSettings = DataSettings()
    """Rows to learn from and to measure on."""
    training: TrainingSettings = TrainingSettings()
    """The optimisation."""
    generation: GenerationSettings = GenerationSettings()
    """How answers are generated."""
    output: Path | None = None
    """Directory the adapter is written to; it must not exist yet, or be empty, or hold an earlier adapter."""


def read_recipe(source: str | Path | None, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe in a YAML file, or the one of that name that comes with the package, with settings changed.

    Args:
        source: a path, or a name such as `toy_image`; None: all defaults.
        overrides: dotted names -> values, such as {"training.steps": 100}.

    Raises:
        ConfigError: no such recipe, or a setting in it is wrong; paths in the file are relative to where one stands.
    """
    values: dict[str, Any] = {}
    where = "settings"
    if source is not None:
        path = Path(source)
        if not path.exists() and (RECIPES / f"{source}.yaml").is_file():
            path = RECIPES / f"{source}.yaml"
        if not path.exists():
            named = ", ".join(sorted(recipe.stem for recipe in RECIPES.glob("*.yaml")))
            raise ConfigError(f"{source}: no such recipe file; recipes of the package are {named}")
        values, where = read_yaml(path), str(path)
    return build_recipe(values, overrides, where)


def build_recipe(
    values: Mapping[str, Any], overrides: Mapping[str, Any] | None = None, where: str = "settings"
) -> Recipe:
    """A recipe from nested values and dotted ones on top.

    Raises:
        ConfigError: a setting is wrong; `where` is named.
    """
    merged = copy.deepcopy(dict(values))
    for dotted, value in (overrides or {}).items():
        _put(merged, dotted.split("."), value, dotted)
    return Recipe.build(merged, where)


def _put(values: dict[str, Any], keys: list[str], value: Any, dotted: str) -> None:
    """Set one nested value."""
    *groups, last = keys
    for key in groups:
        inner = values.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--{dotted}: '{key}' holds a value, not a group of settings")
        values = inner
    values[last] = value
