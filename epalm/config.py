"""Typed settings: one frozen object drives the recipe file, the command line, the saved adapter and the docs.

Letters as everywhere in this project: B batch, T text tokens, P soft-prompt tokens, K perceptual levels, S slots per
level, E encoder width, D language-model width, W word-embedding width, L language-model layers.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from epalm.errors import ConfigError

SettingsT = TypeVar("SettingsT", bound="Settings")


class Settings(BaseModel):
    """Base of all settings: immutable, unknown keys refused, validated when built, documented field by field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

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
    """The published variant that fills in what is not said here: epalm_lin, epalm_pt, epalm, epalm_pt_L, epalm_ada, text_only."""
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
    prompt_tokens: int = Field(default=1, ge=1)
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
        if preset not in PRESETS:
            raise ValueError(f"preset: unknown preset '{preset}'{_nearest(str(preset), PRESETS)}")
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


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a recipe or any other YAML mapping.

    Raises:
        ConfigError: the file is missing, is not valid YAML, or does not hold a mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a recipe must be a mapping of settings, found {type(values).__name__}")
    return values


def _first_problem(cls: type[BaseModel], error: ValidationError) -> str:
    """One line for the first problem pydantic found, with the dotted key and the nearest right name."""
    problem = error.errors()[0]
    keys = [str(part) for part in problem["loc"]]
    dotted = ".".join(keys)
    if problem["type"] == "extra_forbidden":
        return f"unknown setting '{dotted}'{_nearest(keys[-1], _fields_at(cls, keys[:-1]))}"
    message = problem["msg"].removeprefix("Value error, ")
    given = "" if problem["type"] in ("missing", "value_error") else f", got {problem['input']!r}"
    return f"{dotted}: {message}{given}" if dotted else message


def _fields_at(cls: type[BaseModel], keys: list[str]) -> list[str]:
    """Names of the settings inside the group that `keys` leads to."""
    for key in keys:
        field = cls.model_fields.get(key)
        group = settings_class(field.annotation) if field else None
        if group is None:
            return []
        cls = group
    return list(cls.model_fields)


def settings_class(annotation: Any) -> type[BaseModel] | None:
    """The settings group that an annotation such as `Group` or `Group | None` names, or None for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next((found for arm in typing.get_args(annotation) if (found := settings_class(arm))), None)
    return None


def _nearest(name: str, names: typing.Iterable[str]) -> str:
    """'; did you mean ...?' where one name is near, else the names to choose from."""
    names = list(names)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; choose from {', '.join(names)}" if names else ""


def describe_settings(cls: type[BaseModel], prefix: str = "") -> str:
    """Every setting below `cls`, a line each: dotted name, default, what it does."""
    lines = []
    for name, field in cls.model_fields.items():
        group = settings_class(field.annotation)
        if group is not None:
            lines.append(describe_settings(group, f"{prefix}{name}."))
            continue
        default = field.get_default(call_default_factory=True)
        shown = "unset" if default is None else default
        lines.append(f"--{prefix}{name} [{shown}]\n    {field.description or ''}")
    return "\n".join(lines)
