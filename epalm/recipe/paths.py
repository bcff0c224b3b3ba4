"""The paths in a recipe: where they start, and which names are directories rather than hub ids."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from epalm.errors import ConfigError

_PATHS = (
    ("data", "train"), ("data", "validation"), ("data", "root"), ("data", "store"), ("generation", "answers"),
    ("output",),
)  # fmt: skip


def settle_paths(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """`values` with paths that start at `folder`, and those of backbones and adapters in full.

    Raises:
        ConfigError: a backbone is written as a path, and nothing is there.
    """
    settled = copy.deepcopy(dict(values))
    for *groups, name in _PATHS:
        group = settled.get(groups[0]) if groups else settled
        if isinstance(group, dict) and isinstance(group.get(name), str | Path):
            group[name] = folder / Path(group[name]).expanduser()
    data = settled.get("data")
    if isinstance(data, dict) and isinstance(data.get("features"), dict):
        data["features"] = {
            name: folder / Path(place).expanduser() if isinstance(place, str | Path) else place
            for name, place in data["features"].items()
        }
    training = settled.get("training")
    if isinstance(training, dict):
        start = training.get("start_from")
        adapters = [start] if isinstance(start, str) else start
        if isinstance(adapters, list | tuple):
            training["start_from"] = [
                (_directory(name, folder) or name) if isinstance(name, str) else name for name in adapters
            ]
    model = settled.get("model")
    if isinstance(model, dict):
        _find_backbones(model, ("language_model",), folder)
        if isinstance(model.get("encoders"), dict):
            _find_backbones(model["encoders"], tuple(model["encoders"]), folder)
    return settled


def _in_full(source: str, folder: Path) -> str:
    return os.path.abspath(folder / Path(source).expanduser())  # noqa: PTH100  resolve() would follow links


def _directory(source: str, folder: Path) -> str | None:
    """The directory that `source` names, in full, if there is one."""
    path = _in_full(source, folder)
    return path if source and os.path.isdir(path) else None  # noqa: PTH112  Path.is_dir raises on long paths


def _find_backbones(sources: dict[str, Any], names: tuple[str, ...], folder: Path) -> None:
    """Write paths in full, so that a saved adapter finds its backbones wherever it is used."""
    for name in names:
        source = sources.get(name)
        if not isinstance(source, str):
            continue
        if source and os.path.exists(path := _in_full(source, folder)):  # noqa: PTH110  Path.exists raises on long paths
            sources[name] = path
        elif not source or source.startswith(("/", ".", "~")):
            missing = _in_full(source, folder) if source else "without a name"
            raise ConfigError(f"model: there is no directory {missing} for {name}")
