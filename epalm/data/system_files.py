"""Files that are no part of a data set, though they lie in it: what operating systems and Git leave in its place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from epalm.errors import is_lfs_pointer

_FOLDERS = frozenset(
    {"__MACOSX", ".AppleDouble", ".Spotlight-V100", ".Trashes", ".fseventsd", "@eaDir", "$RECYCLE.BIN"}
)
_FILES = frozenset({".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
_APPLE_DOUBLE = "._"
"""Begins the name of what macOS keeps about the file of the same name without it."""
_HEAD = 64
"""Bytes by which a pointer of Git LFS is known."""


def is_system_file(path: str) -> bool:
    """Whether a relative path, with slashes, is a file that an operating system left.

    A sidecar of macOS ends as the file that it is of: `._a.jpg` holds no picture.
    """
    *folders, name = path.split("/")
    return name.startswith(_APPLE_DOUBLE) or name.lower() in _FILES or any(map(is_system_folder, folders))


def is_system_folder(name: str) -> bool:
    """Whether a directory of that name is one that an operating system made for itself."""
    return name in _FOLDERS


def lfs_advice(path: Path) -> str:
    """What to add to the message where a file cannot be read because Git LFS has not fetched it; else nothing."""
    try:
        with path.open("rb") as file:
            is_pointer = is_lfs_pointer(file.read(_HEAD))
    except OSError:
        return ""
    return "; it is a pointer of Git LFS: fetch the file with `git lfs pull`" if is_pointer else ""


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below a directory, in alphabetical order, those of a directory before those of the ones in it.

    Links to directories are followed, but not round in circles; what an operating system left is among the files.
    """
    entered: set[str] = set()
    for place, directories, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in entered:
            directories.clear()
            continue
        entered.add(real)
        directories.sort()
        yield from (Path(place, name) for name in sorted(names))
