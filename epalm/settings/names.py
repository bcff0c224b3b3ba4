"""The names of settings: all of them, the one that was meant, and what each takes; for YAML, command line and help."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from epalm.errors import ConfigError
from epalm.settings.nearest import nearest

_WORDS = {bool: "true|false", int: "WHOLE_NUMBER", float: "NUMBER", Path: "PATH"}


def all_settings(cls: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting below `cls` by its dotted name, groups opened."""
    for name, field in cls.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from all_settings(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def find_setting(cls: type[BaseModel], dotted: str) -> Any:
    """The type of the setting of that name below `cls`, or of the entry where a setting holds named entries.

    Raises:
        ConfigError: there is no such setting; the nearest is named.
    """
    for name, field in all_settings(cls):
        if name == dotted:
            return field.annotation
        if typing.get_origin(field.annotation) is dict and name == dotted.rpartition(".")[0]:
            return typing.get_args(field.annotation)[1]
    raise ConfigError(unknown_setting(cls, dotted))


def unknown_setting(cls: type[BaseModel], dotted: str) -> str:
    """What to say of a setting that there is not below `cls`: its name, and the one that was probably meant."""
    names = [name for name, _ in all_settings(cls)]
    group, _, last = dotted.rpartition(".")
    elsewhere = [name for name in names if name.rpartition(".")[2] == last]
    inside = [name.removeprefix(f"{group}.") for name in names if name.startswith(f"{group}.")]
    if elsewhere:
        remedy = nearest(dotted, elsewhere, cutoff=0.0)
    elif inside:
        remedy = nearest(last, inside, prefix=f"{group}.")
    else:
        remedy = nearest(dotted, names if group else cls.model_fields)
    return f"unknown setting '{dotted}'{remedy}"


def kinds(annotation: Any) -> set[Any]:
    """The types that an annotation such as `int | None` allows, literals by the type of their values."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return {kind for arm in typing.get_args(annotation) for kind in kinds(arm)}
    if typing.get_origin(annotation) is Literal:
        return {type(value) for value in typing.get_args(annotation)}
    return {typing.get_origin(annotation) or annotation}


def describe_settings(cls: type[BaseModel]) -> str:
    """Every setting below `cls`: dotted name, what it takes, its default, and what it does."""
    lines = []
    for name, field in all_settings(cls):
        default = field.get_default(call_default_factory=True)
        if isinstance(default, dict):
            name, default = f"{name}.NAME", ", ".join(f"{key}: {value}" for key, value in default.items())
        elif isinstance(default, bool):
            default = str(default).lower()
        shown = "unset" if default is None else "empty" if default in ("", ()) else default
        lines.append(f"--{name} {_takes(field.annotation)}  [{shown}]")
        lines.append(f"    {' '.join((field.description or '').split())}")
    return "\n".join(lines)


def _takes(annotation: Any) -> str:
    """What a setting of this type takes, in a word."""
    if typing.get_origin(annotation) is dict:
        return _takes(typing.get_args(annotation)[1])
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    words: list[str] = []
    for arm in typing.get_args(annotation) if is_union else (annotation,):
        if typing.get_origin(arm) is Literal:
            words += [str(value).lower() for value in typing.get_args(arm)]
        elif arm is not type(None):
            words.append(_WORDS.get(arm, "TEXT"))
    return "|".join(words)
