"""Media that came inside other files, written out beside a manifest, under the names they came with."""

from __future__ import annotations

import hashlib
import re
import shutil
from itertools import chain, count
from pathlib import Path
from typing import IO

from epalm.errors import DataError
from epalm.media.suffixes import SUFFIXES, suffix_of

_UNSAFE = re.compile(r"[^\w.-]+")
_LONGEST = 60
"""Characters of a name that are kept: file systems allow 255 bytes, and one may take four."""


class ExtractedMedia:
    """A directory of media files. No two names in it differ by upper and lower case alone, which some systems ignore.

    Args:
        folder: is made with the first file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._contents: dict[str, bytes] = {}  # name -> digest of what is written under it
        self._taken: set[str] = set()
        self._new: list[Path] = []  # files and directories that were not there before

    def put(self, content: bytes, modality: str, name: str | None) -> Path:
        """Where `content` is now; the same content under the same name, or both times without one, is one file.

        Args:
            content: of a whole file.
            modality: of it.
            name: it came with, if any; directories in it are dropped, and another content of that name is kept apart.

        Raises:
            DataError: it cannot be written.
        """
        digest = hashlib.sha256(content).digest()
        original = Path(_UNSAFE.sub("_", (name or "").replace("\\", "/").rpartition("/")[2]).lstrip("."))
        suffix = original.suffix.lower() if original.suffix.lower() in SUFFIXES[modality] else suffix_of(content)
        stem = original.name.removesuffix(original.suffix) if suffix == original.suffix.lower() else original.name
        stem = stem[-_LONGEST:] or digest.hex()[:16]
        names = f"{stem}{suffix}", f"{stem}-{digest.hex()[:16]}{suffix}"
        file = next(file for file in names if self._contents.get(file.lower(), digest) == digest)
        path = self._folder / file
        if file.lower() not in self._contents:
            with self._writing(path) as opened:
                opened.write(content)
            self._contents[file.lower()] = digest
        return path

    def copy(self, content: IO[bytes], folder: str, stem: str, ending: str) -> Path:
        """Where a file is now that is read from another; one of its own, whatever else has that name.

        Args:
            content: is read to its end.
            folder: below this one.
            stem: of its name; signs that names should not have are replaced.
            ending: of its name, with the dot.

        Raises:
            DataError: it cannot be written.
        """
        stem, ending = _UNSAFE.sub("_", stem)[-_LONGEST:], _UNSAFE.sub("_", ending)[-_LONGEST:]
        names = chain([stem], (f"{stem}-{number}" for number in count(2)))
        path = next(
            path for name in names if str(path := self._folder / folder / f"{name}{ending}").lower() not in self._taken
        )
        self._taken.add(str(path).lower())
        with self._writing(path) as file:
            shutil.copyfileobj(content, file)
        return path

    def remove(self, path: Path) -> None:
        """Take away a file that turned out not to be needed."""
        path.unlink()

    def discard(self) -> None:
        """Take away every file that was not there before, as far as that can be done."""
        for path in reversed(self._new):
            try:
                path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
            except OSError:
                continue

    def _writing(self, path: Path) -> IO[bytes]:
        """A file to write to.

        Raises:
            DataError: there cannot be one.
        """
        try:
            for folder in reversed(path.parents):
                if not folder.exists():
                    folder.mkdir()
                    self._new.append(folder)
            if not path.exists():
                self._new.append(path)
            return path.open("wb")
        except OSError as error:
            raise DataError(f"{path}: cannot be written: {error.strerror}") from None
