"""Files of results that commands write: looked at before the work, and written whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from epalm.errors import ConfigError
from epalm.runtime.outputs import check_writable, write_whole


def check_results(results: list[tuple[str, Path | None]], reserved: dict[str, Path | None]) -> None:
    """See that results can be written where nothing else is, before hours of work are spent on them.

    Args:
        results: options, and the files that they name.
        reserved: other options and arguments, and the files and directories that they name.

    Raises:
        ConfigError: one cannot be written, or would take the place of another file.
    """
    places = {name: _place(path) for name, path in reserved.items() if path is not None}
    for name, path in results:
        if path is None:
            continue
        own = _place(path)
        for other, place in places.items():
            if place == own or (other == "--output" and place in own.parents):
                raise ConfigError(f"{name}: {path} is where {other} is; name another file")
        check_writable(path, name)
        places[name] = own


def _place(path: Path) -> Path:
    """Where a path leads, by whatever links and `..`."""
    return Path(os.path.realpath(path))


def write_json(path: Path | None, result: dict[str, Any]) -> None:
    """Write what `--json` asks for, if it does."""
    if path is not None:
        write_whole(path, [json.dumps(result, indent=2), "\n"], "--json")
