"""Settings in YAML files: one mapping a file, in which no key stands twice."""

from __future__ import annotations

import os
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from epalm.errors import ConfigError


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
