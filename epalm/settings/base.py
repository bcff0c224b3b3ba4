"""The base of all settings: one frozen object drives recipe file, command line, saved adapter and docs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from epalm.errors import ConfigError
from epalm.settings.names import kinds, unknown_setting

SettingsT = TypeVar("SettingsT", bound="Settings")


class Settings(BaseModel):
    """Base of all settings: immutable, unknown keys refused, validated when built, documented field by field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_value_for_a_number(cls, values: Any) -> Any:
        """YAML reads `yes`, `no`, `on` and `off` as truth values, and Python takes those for 1 and 0."""
        for name, field in cls.model_fields.items():
            value = values.get(name) if isinstance(values, Mapping) else None
            if isinstance(value, bool) and {int, float} & kinds(field.annotation):
                raise ValueError(f"{name} must be a number, not true or false")
        return values

    @classmethod
    def build(cls: type[SettingsT], values: Mapping[str, Any], where: str = "settings") -> SettingsT:
        """Validate `values`; a problem becomes a one-line `ConfigError` that names `where`, the key and the remedy."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError(f"{where}: {_first_problem(cls, error)}") from None


def _first_problem(cls: type[BaseModel], error: ValidationError) -> str:
    """One line for the first problem pydantic found, with the dotted key and the nearest right name."""
    problem = error.errors()[0]
    dotted = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return unknown_setting(cls, dotted)
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] in ("model_type", "dict_type"):
        message = "must be a group of 'name: value' settings"
    found = "" if problem["type"] in ("missing", "value_error") else f", got {_short(problem['input'])}"
    return f"{dotted}: {message}{found}" if dotted else f"{message}{found}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]}...{text[-1]}"
