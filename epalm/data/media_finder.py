"""The file that a path means, where it is not there as written: paths travel between systems, and change on the way.

macOS takes names apart (NFD: e, then an accent) that others write composed (NFC), Windows parts directories by
backslashes, and tools of labelling write `file://` URLs and percent signs. Where nothing else differs, the file is
found. Names that differ by more are never taken for each other; but the nearest is told.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from epalm.media.suffixes import MODALITY_OF

_FILE_URL = re.compile(r"file:(?://(?:localhost(?=/))?)?(?P<path>.+)", re.IGNORECASE)
_WEB = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_NORMALISATION = "another Unicode normalisation"

Spelling = Callable[[str], str]
"""A name -> what is alike in all names that count as the same."""


@dataclass(frozen=True)
class Match:
    """A file that is there."""

    path: Path
    difference: str = ""
    """How its path differs from what was written; empty where it does not."""


class MediaFinder:
    """Finds files; every directory is listed at most once."""

    def __init__(self) -> None:
        self._listings: dict[Path, list[str]] = {}
        self._spelt: dict[tuple[Path, Spelling], dict[str, list[str]]] = {}

    def find(self, folder: Path, written: str) -> Match | None:
        """The one file that is meant, if it is there.

        Args:
            folder: where relative paths start.
            written: the path, as it was given.
        """
        readings = _readings(written)
        for text, differences in readings:
            if is_file(folder / text):
                return Match(folder / text, " and ".join(differences))
        for text, differences in readings:
            found = None if text.isascii() else self._walk(folder, text, _composed)
            if found is not None:
                return Match(found, " and ".join([*differences, _NORMALISATION]))
        return None

    def hint(self, folder: Path, written: str) -> str:
        """What to do where `written` is not there: the nearest file, and how it differs; empty where none is near."""
        if _WEB.match(written) and not _FILE_URL.match(written):
            return f"'{written}' is a web address: download the file and write its path"
        for text, _ in _readings(written):
            if (found := self._walk(folder, text, _caseless, several=True)) is not None:
                return f"'{_shown(found, folder)}' is there, which differs in upper and lower case"
            parts = text.split("/")
            for first in range(1, len(parts)):
                shorter = "/".join(parts[first:])
                if is_file(folder / shorter):
                    return f"'{shorter}' is there: leave out the directories before it"
            if is_file(Path(text)):
                return f"'{text}' is there as seen from where one stands: write it as seen from {folder}"
            name, place = parts[-1], folder / "/".join(parts[:-1])
            stem = name.rpartition(".")[0] or name
            alike = (other for other in self._names(place) if other.rpartition(".")[0] == stem)
            other = next((name for name in alike if Path(name).suffix.lower() in MODALITY_OF), None)
            if other is not None:
                return f"'{_shown(place / other, folder)}' is there, which ends in another way"
        return ""

    def _walk(self, folder: Path, text: str, spelling: Spelling, *, several: bool = False) -> Path | None:
        """The file whose path is `text` in this spelling, part by part; of several that are so only if that will do."""
        here = Path("/") if text.startswith("/") else folder
        for part in text.split("/"):
            if part in ("", ".") or _exists(here / part):
                here /= part
                continue
            names = self._by_spelling(here, spelling).get(spelling(part), [])
            if not names or (len(names) > 1 and not several):
                return None
            here /= names[0]
        return here if is_file(here) else None

    def _by_spelling(self, place: Path, spelling: Spelling) -> dict[str, list[str]]:
        if (place, spelling) not in self._spelt:
            names = self._spelt[place, spelling] = {}
            for name in self._names(place):
                names.setdefault(spelling(name), []).append(name)
        return self._spelt[place, spelling]

    def _names(self, place: Path) -> list[str]:
        if place not in self._listings:
            try:
                self._listings[place] = sorted(path.name for path in place.iterdir())
            except (OSError, ValueError):
                self._listings[place] = []
        return self._listings[place]


def is_file(path: Path) -> bool:
    """Whether it is one; unlike `Path.is_file`, nothing is raised where a path is too long or a directory closed."""
    return os.path.isfile(path)  # noqa: PTH113


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110


def _readings(written: str) -> list[tuple[str, list[str]]]:
    """What `written` may mean, as a path with slashes, and how each differs from it."""
    readings: list[tuple[str, list[str]]] = [(written, [])]
    text, differences = written, []
    if (url := _FILE_URL.fullmatch(text)) is not None:
        text, differences = unquote(url["path"]), ["a file:// URL"]
        readings.append((text, differences))
    if "\\" in text:
        text, differences = text.replace("\\", "/"), [*differences, "backslashes between directories"]
        readings.append((text, differences))
    if unquote(text) != text and url is None:
        text, differences = unquote(text), [*differences, "percent-encoding"]
        readings.append((text, differences))
    return readings


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _caseless(name: str) -> str:
    return _composed(name).casefold()


def _shown(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
