"""Media that came inside other files, written out beside a manifest: each content once, under the name it came with."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from epalm.data.published.folder import SUFFIXES
from epalm.errors import DataError

_UNSAFE = re.compile(r"[^\w.-]+")
_BEGINNINGS = (
    (0, b"\xff\xd8\xff", ".jpg"),
    (0, b"\x89PNG", ".png"),
    (0, b"GIF8", ".gif"),
    (8, b"WEBP", ".webp"),
    (8, b"WAVE", ".wav"),
    (8, b"AVI ", ".avi"),
    (0, b"fLaC", ".flac"),
    (0, b"OggS", ".ogg"),
    (0, b"ID3", ".mp3"),
    (0, b"\xff\xfb", ".mp3"),
    (4, b"ftyp", ".mp4"),
    (0, b"\x1aE\xdf\xa3", ".webm"),
    (0, b"BM", ".bmp"),
)
"""Where in a file what stands that tells its kind; the suffix helps people, readers look at the content."""


class ExtractedMedia:
    """A directory of media files.

    Args:
        folder: is made with the first file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._contents: dict[str, bytes] = {}  # name -> digest of what is written under it

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
        suffix = original.suffix.lower() if original.suffix.lower() in SUFFIXES[modality] else _suffix(content)
        stem = original.name.removesuffix(original.suffix) if suffix == original.suffix.lower() else original.name
        stem = stem or digest.hex()[:16]
        names = f"{stem}{suffix}", f"{stem}-{digest.hex()[:16]}{suffix}"
        file = next(file for file in names if self._contents.get(file, digest) == digest)
        path = self._folder / file
        if file not in self._contents:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            except OSError as error:
                raise DataError(f"{path}: cannot be written: {error.strerror}") from None
            self._contents[file] = digest
        return path


def _suffix(content: bytes) -> str:
    return next((suffix for at, begin, suffix in _BEGINNINGS if content[at : at + len(begin)] == begin), "")
