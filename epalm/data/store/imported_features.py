"""Ready features, which need no encoder: those that somebody brought, by id, or a store that was built before.

The id of an item is found in the path that a row gives: it is the path, or what is behind one of its slashes, with the
name's ending or without it. The longest that is in the store counts; the file itself need not be there. Where none is,
the same is tried with backslashes between directories and in the other forms of Unicode.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from epalm.data.feature_cache import OnProgress, PerceiveViews, once_noticeable
from epalm.data.store.cached_features import KnownViews
from epalm.data.store.file_hashes import FileHashes, place_of
from epalm.data.store.keys import as_keys, key_of
from epalm.data.store.store import FeatureStore
from epalm.data.views import FileView
from epalm.errors import DataError
from epalm.runtime.processes import Processes

_AT_ONCE = 4096


class ImportedFeatures(KnownViews):
    """The features that are in a store; nothing is added to it.

    Args:
        folder: of the store.

    Raises:
        DataError: there is no store, or it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(FeatureStore(folder))
        self._owners: dict[bytes, str] = {}

    def perceive(
        self, views: Sequence[FileView], perceive: PerceiveViews, on_progress: OnProgress, processes: Processes
    ) -> None:
        """Find these views.

        Raises:
            DataError: two files would have the features of one id, or features that are wanted are damaged.
        """
        lacking = self.lacks(views)
        if not any(processes.share(bool(lacking))):
            return
        paths = [path for path, _ in views]
        by_id = self.store.description.identity == "id"
        keys = self._by_id(paths) if by_id else self._by_content(paths, on_progress, processes)
        self._check(as_keys(keys.values()), on_progress, processes)
        if self.store.damaged:
            raise DataError(f"{next(iter(self.store.damaged.values()))}; remove it, and import or build it again")
        self._keys |= {(path, None): key for path, key in keys.items()}

    def _by_content(self, paths: Sequence[Path], on_progress: OnProgress, processes: Processes) -> dict[Path, bytes]:
        places = {path: place_of(path) for path in paths}
        report = once_noticeable(partial(on_progress, "identifying"))
        contents = FileHashes(self.store.folder / "places").identify(places, processes, report)
        there = self.store.find(as_keys(contents.values())) >= 0
        return {path: key for (path, key), found in zip(contents.items(), there.tolist(), strict=True) if found}

    def _by_id(self, paths: Sequence[Path]) -> dict[Path, bytes]:
        found: dict[Path, bytes] = {}
        for names_of in (ids_of, other_spellings_of):
            missing = [path for path in paths if path not in found]
            for first in range(0, len(missing), _AT_ONCE):
                batch = missing[first : first + _AT_ONCE]
                keys = [[key_of_id(name) for name in names_of(path)] for path in batch]
                there = iter((self.store.find(as_keys(key for each in keys for key in each)) >= 0).tolist())
                for path, each in zip(batch, keys, strict=True):
                    present = [key for key, is_there in zip(each, [next(there) for _ in each], strict=True) if is_there]
                    if present:
                        found[path] = self._owned(present[0], path)
        return found

    def _owned(self, key: bytes, path: Path) -> bytes:
        """The key, if no other file has it."""
        mine = os.path.abspath(path)  # noqa: PTH100
        other = self._owners.setdefault(key, mine)
        if other != mine:
            raise DataError(
                f"{self.store.folder}: {path} and {other} have the same id in it; give ids with directories"
            )
        return key


def key_of_id(name: str) -> bytes:
    """The key of the item that was brought as `name`."""
    return key_of(name.encode("utf-8", "surrogateescape"))


def ids_of(path: Path) -> Iterator[str]:
    """What a file may be called, the longest first: `a/b.jpg`, `a/b`, `b.jpg`, `b`."""
    parts = path.as_posix().split("/")
    for first in range(len(parts)):
        name = "/".join(parts[first:])
        yield name
        if path.suffix:
            yield name.removesuffix(path.suffix)


def other_spellings_of(path: Path) -> Iterator[str]:
    """What a file may be called on another system, the longest first, if that is not among `ids_of`."""
    plain = set(ids_of(path))
    for name in ids_of(Path(path.as_posix().replace("\\", "/"))):
        for form in (name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))):
            yield from (spelling for spelling in (form, form.replace("/", "\\")) if spelling not in plain)
