"""Where feature stores lie: below a directory that is named, or the user's cache."""

from __future__ import annotations

import os
from pathlib import Path

from epalm.data.store.description import DESCRIPTION


def default_place() -> Path:
    """`$EPALM_CACHE/features`, else `epalm/features` in the user's cache directory."""
    directory = os.environ.get("EPALM_CACHE")
    if directory:
        return Path(directory).expanduser() / "features"
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path("~/.cache").expanduser()) / "epalm" / "features"


def stores_below(folder: Path) -> list[Path]:
    """The store that `folder` is, or the stores in it."""
    if (folder / DESCRIPTION).is_file():
        return [folder]
    return sorted(path.parent for path in folder.glob(f"*/{DESCRIPTION}"))
