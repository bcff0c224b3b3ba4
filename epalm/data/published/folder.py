"""A directory that somebody downloaded a data set into: files are found by name, however they were sorted into it."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from epalm.data.system_files import is_system_file, is_system_folder
from epalm.errors import DataError
from epalm.media.suffixes import SUFFIXES

_DEEPEST = 5
"""Directories below the root that are looked into; links to directories are followed, and may go round in circles."""
_SAME_SPLIT = {"train": ("train", "dev"), "val": ("val", "dev"), "test": ("test", "eval")}
"""What directories of a split are called; Clotho's are development, validation and evaluation."""


class Folder:
    """Every file below a directory, by name; Unicode normalisation makes no difference.

    Args:
        root: the directory; it is listed once.

    Raises:
        DataError: there is no such directory.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such directory; name the one that the data set was put into")
        self._by_name: dict[str, list[Path]] = {}
        self._by_stem: dict[str, list[Path]] = {}
        for place, directories, names in os.walk(self.root, followlinks=True):
            directories[:] = sorted(name for name in directories if not is_system_folder(name))
            here = Path(place)
            if len(here.relative_to(self.root).parts) >= _DEEPEST:
                directories.clear()
            for name in sorted(names):
                if is_system_file(name):
                    continue
                path, composed = here / name, _composed(name)
                self._by_name.setdefault(composed, []).append(path)
                self._by_stem.setdefault(composed.rpartition(".")[0], []).append(path)

    def file(self, names: Sequence[str], split: str = "") -> Path | None:
        """The first of the named files that is there."""
        return next((self._best(self._by_name[name], split) for name in names if name in self._by_name), None)

    def nearest(self, name: str) -> str | None:
        """A file's name that differs from `name`, with or without its ending, in upper and lower case alone, if any."""
        paths = self._by_case.get(_bare(name).casefold())
        return paths[0].name if paths else None

    def media(self, modality: str, names: Sequence[str], split: str = "") -> Path | None:
        """The first of the named media files that is there: under that name, else with another suffix of its modality.

        Of several files of one name, one in a directory of the split is preferred, then the one nearest to the root.
        """
        for name in map(_bare, names):
            if name in self._by_name:
                return self._best(self._by_name[name], split)
            stem, _, suffix = name.rpartition(".")
            bare = stem if f".{suffix.lower()}" in SUFFIXES[modality] else name
            found = [path for path in self._by_stem.get(bare, ()) if path.suffix.lower() in SUFFIXES[modality]]
            if found:
                rank = SUFFIXES[modality].index
                return self._best(sorted(found, key=lambda path: rank(path.suffix.lower())), split)
        return None

    @cached_property
    def _by_case(self) -> dict[str, list[Path]]:
        return {name.casefold(): paths for names in (self._by_stem, self._by_name) for name, paths in names.items()}

    def _best(self, paths: list[Path], split: str) -> Path:
        if len(paths) == 1:
            return paths[0]
        parts = split.replace("karpathy_", "").lower()
        words = next((names for start, names in _SAME_SPLIT.items() if parts.startswith(start)), (parts,))

        def rank(path: Path) -> tuple[bool, int]:
            directories = [part.lower() for part in path.relative_to(self.root).parts[:-1]]
            return not any(part.startswith(words) for part in directories), len(directories)

        return min(paths, key=rank)


def _bare(name: str) -> str:
    """A file's name without directories, whichever way they are parted."""
    return _composed(name.replace("\\", "/").rpartition("/")[2])


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
