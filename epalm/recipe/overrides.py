"""Settings on the command line: `--group.name value` or `--group.name=value`, of the type that the recipe wants."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from epalm.errors import ConfigError
from epalm.settings.names import all_settings, find_setting, kinds
from epalm.settings.nearest import nearest

_SETTING = re.compile(r"--(?P<name>[A-Za-z_][\w-]*(?:\.[\w-]+)+)(?:=(?P<value>.*))?", re.DOTALL)


def split_settings(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Take the dotted settings out of the arguments; what stands behind `--` is left alone.

    Raises:
        ConfigError: there is no such setting, or it has no value.
    """
    overrides: dict[str, Any] = {}
    rest: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        found = _SETTING.fullmatch(argument)
        if argument == "--":
            rest += [argument, *waiting]
        elif found is None:
            rest.append(argument)
        else:
            value = found["value"] if found["value"] is not None else next(waiting, "--")
            if found["value"] is None and value.startswith("--"):
                raise ConfigError(f"{argument}: needs a value; to give one that begins with --, write {argument}=VALUE")
            overrides[found["name"]] = _parse(found["name"], value)
    return overrides, rest


def nearest_option(name: str, options: Sequence[str]) -> str:
    """'; did you mean ...?' for an option that there is not, among `options` and all settings."""
    from epalm.recipe.recipe import Recipe

    settings = [f"--{setting}" for setting, _ in all_settings(Recipe)]
    last = name.lstrip("-").replace("-", "_")
    same_name = [setting for setting in settings if setting.rpartition(".")[2] == last]
    if same_name:
        return f"; did you mean {' or '.join(same_name)}?"
    return nearest(name, [*options, *settings])


def _parse(dotted: str, text: str) -> Any:
    """Text as it stands where text is wanted, else what YAML reads in it."""
    from epalm.recipe.recipe import Recipe

    takes = kinds(find_setting(Recipe, dotted))
    if type(None) in takes and text == "null":
        return None
    if not takes - {str, Path, type(None)}:
        return text
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return text
