"""Typed settings: one frozen object drives the recipe file, the command line, the saved adapter and the docs.

Letters as everywhere in this project: B batch, T text tokens, P soft-prompt tokens, K perceptual levels, S slots per
level, E encoder width, D language-model width, W word-embedding width, L language-model layers.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from epalm.errors import ConfigError
from epalm.nearest import nearest
from epalm.setting_names import kinds, unknown_setting

SettingsT = TypeVar("SettingsT", bound="Settings")


class Settings(BaseModel):
    """Base of all settings: immutable, unknown keys refused, validated when built, documented field by field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_value_for_a_number(cls, values: Any) -> Any:
        """YAML reads `yes`, `no`, `on` and `off` as truth values, and Python takes those for 1 and 0."""
        for name, field in cls.model_fields.items():
            given = values.get(name) if isinstance(values, Mapping) else None
            if isinstance(given, bool) and {int, float} & kinds(field.annotation):
                raise ValueError(f"{name} must be a number, not true or false")
        return values

    @classmethod
    def build(cls: type[SettingsT], values: Mapping[str, Any], where: str = "settings") -> SettingsT:
        """Validate `values`; a problem becomes a one-line `ConfigError` that names `where`, the key and the remedy."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError(f"{where}: {_first_problem(cls, error)}") from None


class AdapterConfig(Settings):
    """What is trained and where it enters the frozen language model (eP-ALM section 3)."""

    preset: str = "epalm_pt"
    """The published variant that fills in what is not said here: epalm_lin, epalm_pt, epalm, epalm_pt_L, epalm_ada,
    text_only."""
    connector: Literal["shared", "per_level", "none"] = "shared"
    """`shared`: one linear E -> D for all levels; `per_level`: one for each; `none`: no perception at all."""
    levels: int | None = Field(default=None, ge=1)
    """K, the encoder's last layers tapped; unset: min(6, end - start, encoder layers)."""
    start: int | None = Field(default=None, ge=0)
    """First LM layer that receives perception; unset: round(19 L / 32)."""
    end: int | None = Field(default=None, ge=1)
    """First LM layer after the window; unset: L - 1."""
    prompt: Literal["none", "plain", "mlp"] = "plain"
    """`plain`: P free vectors; `mlp`: P embeddings through Linear-Tanh-Linear; `none`: no soft prompt."""
    prompt_tokens: int = Field(default=1, ge=1, le=100_000)
    """P, the soft-prompt tokens (not used with prompt `none`)."""
    mask: Literal["causal", "legacy"] = "causal"
    """`causal`: the slot's row sees only itself; `legacy`: it sees everything, as in the original checkpoints."""
    block_adapters: Literal["none", "mlp", "attention", "both"] = "none"
    """Bottleneck adapters in every LM block (`epalm_ada`): after the MLP, after the attention, or both."""
    bottleneck: int = Field(default=8, ge=1)
    """f: block adapters are D -> D/f -> D."""

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset(cls, values: Any) -> Any:
        """A preset fills in what is not said."""
        if not isinstance(values, Mapping):
            return values
        preset = values.get("preset", "epalm_pt")
        if not isinstance(preset, str) or preset not in PRESETS:
            raise ValueError(f"unknown preset '{preset}'{nearest(str(preset), PRESETS)}")
        return {**PRESETS[preset], **values}

    @model_validator(mode="after")
    def _window_is_ordered(self) -> AdapterConfig:
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError(f"end ({self.end}) must be greater than start ({self.start})")
        return self

    @classmethod
    def from_preset(cls, preset: str = "epalm_pt", **overrides: Any) -> AdapterConfig:
        """The named preset with some settings changed.

        Raises:
            ConfigError: the preset or a setting is unknown; the nearest right name is given.
        """
        return cls.build({"preset": preset, **overrides}, where="adapter")


PRESETS: dict[str, dict[str, Any]] = {
    "epalm_lin": {"connector": "shared", "prompt": "none"},
    "epalm_pt": {"connector": "shared", "prompt": "plain", "prompt_tokens": 1},
    "epalm": {"connector": "per_level", "prompt": "mlp", "prompt_tokens": 10},
    "epalm_pt_L": {"connector": "shared", "prompt": "plain", "prompt_tokens": 10},
    "epalm_ada": {"connector": "shared", "prompt": "plain", "prompt_tokens": 1, "block_adapters": "both"},
    "text_only": {"connector": "none", "prompt": "plain", "prompt_tokens": 1},
}
"""Published variants of eP-ALM and the blind floor `text_only`."""


class _RecipeLoader(yaml.SafeLoader):
    """YAML in which no key stands twice: the first value would be lost in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        merge = "tag:yaml.org,2002:merge"  # `<<` may stand twice and is no key
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != merge]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"'{key}' is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a recipe or any other YAML mapping.

    Raises:
        ConfigError: the file is missing, cannot be read, is not valid YAML, or does not hold a mapping.
    """
    if not os.path.isfile(path):  # noqa: PTH113  Path.is_file raises where a path is too long
        is_folder = os.path.isdir(path)  # noqa: PTH112
        raise ConfigError(f"{path}: is a directory; name a YAML file" if is_folder else f"{path}: no such file")
    try:
        values = yaml.load(Path(path).read_text(encoding="utf-8-sig"), Loader=_RecipeLoader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date that there is not
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply") from None
    if not isinstance(values, dict):
        found = "nothing" if values is None else f"a {type(values).__name__}"
        raise ConfigError(f"{path}: must hold settings as 'name: value' lines, found {found}")
    return values


def _first_problem(cls: type[BaseModel], error: ValidationError) -> str:
    """One line for the first problem pydantic found, with the dotted key and the nearest right name."""
    problem = error.errors()[0]
    dotted = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return unknown_setting(cls, dotted)
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] in ("model_type", "dict_type"):
        message = "must be a group of 'name: value' settings"
    given = "" if problem["type"] in ("missing", "value_error") else f", got {_short(problem['input'])}"
    return f"{dotted}: {message}{given}" if dotted else f"{message}{given}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]}...{text[-1]}"
