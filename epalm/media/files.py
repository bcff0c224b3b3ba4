"""What reading any media file shares: its name in a message, the refusals said in plain words, and optional packages.

A decoder meets damage with whatever exception comes first, and names neither the file nor what to do. `naming` makes
one `MediaError` of one line out of all of them. A path and a file object that hold the same bytes are read in the same
way where both come through `binary`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

from epalm.errors import MediaError, is_lfs_pointer

FileSource = str | PathLike[str] | BinaryIO

_LARGEST_POINTER = 1 << 10  # bytes, of Git LFS
_FIRST_CHUNK, _LARGEST_CHUNK = 1 << 12, 1 << 20  # bytes searched at once: more and more, for most are found nearby


class FileWindow(io.RawIOBase):
    """A stretch of a binary file object that reads like a file of its own, with a position of its own.

    Args:
        file: can be moved in; it is not closed with the window.
        start: byte at which the window begins.
        end: byte before which it ends; None: the end of the file.
        name: of the file, for whoever asks.
    """

    def __init__(self, file: BinaryIO, start: int = 0, end: int | None = None, name: str = "") -> None:
        super().__init__()
        self.name = name or name_of(file)
        self._file, self._start, self._position = file, start, 0
        self.size = max(0, (file.seek(0, os.SEEK_END) if end is None else end) - start)
        """Bytes in it."""

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Position from the start of the window."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move as in any file."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` as far as the window goes; returns the bytes read."""
        part = self.at(self._position, len(buffer))
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def at(self, position: int, count: int) -> bytes:
        """`count` bytes from `position` on, fewer at the end; the window's own position stays."""
        count = min(count, self.size - position)
        if count <= 0:
            return b""
        self._file.seek(self._start + position)
        return self._file.read(count)

    def places(self, pattern: bytes, position: int = 0) -> Iterator[int]:
        """Wherever `pattern` stands at `position` or behind it; what is between is read once."""
        count = _FIRST_CHUNK
        while len(part := self.at(position, count)) >= len(pattern):
            found = part.find(pattern)
            while found >= 0:
                yield position + found
                found = part.find(pattern, found + 1)
            position += len(part) - len(pattern) + 1
            count = min(2 * count, _LARGEST_CHUNK)

    def part(self, start: int, end: int | None = None) -> FileWindow:
        """A window in the window."""
        end = self.size if end is None else end
        return FileWindow(self._file, self._start + start, self._start + end, self.name)


@contextmanager
def binary(source: FileSource) -> Iterator[FileWindow]:
    """The bytes of `source`, from where a file object stands; in the end it is put back there.

    What cannot be moved in, such as a pipe, is read into memory.
    """
    if isinstance(source, (str, PathLike)):
        with Path(source).open("rb") as file:
            yield FileWindow(file, name=str(source))
    elif source.seekable():
        position = source.tell()
        try:
            yield FileWindow(source, position)
        finally:
            source.seek(position)
    else:
        yield FileWindow(io.BytesIO(source.read()), name=name_of(source))


def name_of(source: object) -> str:
    """What to call `source` in a message."""
    if isinstance(source, (str, PathLike)):
        return str(source)
    own_name = getattr(source, "filename", None) or getattr(source, "name", None)
    return str(own_name) if own_name else f"<{type(source).__name__}>"


@contextmanager
def naming(source: object) -> Iterator[None]:
    """Whatever goes wrong inside -> a `MediaError` of one line that begins with the name of `source`."""
    name = name_of(source)
    try:
        yield
    except FileNotFoundError:
        raise MediaError(f"{name}: no such file") from None
    except MediaError as error:
        raise MediaError(f"{name}: {error}") from None
    except MemoryError:
        raise MediaError(f"{name}: too large for the memory of this machine") from None
    except PermissionError:
        raise MediaError(f"{name}: no permission to read it") from None
    except Exception as error:
        # Decoders meet damage with whatever comes first: OSError, SyntaxError, struct.error, IndexError, EOFError, ...
        raise MediaError(f"{name}: damaged or cut short: {one_line(error)}") from None


def refuse_what_is_no_file(source: FileSource, kind: str) -> None:
    """Say plainly what a decoder would report as an unknown format; `kind` is what was looked for ("a picture").

    Raises:
        FileNotFoundError: there is nothing of that name.
        MediaError: a directory, no regular file, an empty one, or a pointer of Git LFS.
    """
    if isinstance(source, (str, PathLike)):
        path = Path(source)
        if path.is_dir():
            raise MediaError(f"is a directory, not {kind}")
        if not path.exists():
            raise FileNotFoundError(path)
        if not path.is_file():
            raise MediaError("is not a regular file")
        if path.stat().st_size < _LARGEST_POINTER:
            with path.open("rb") as file:
                _refuse_by_head(file.read(_LARGEST_POINTER))
    elif source.seekable():
        position = source.tell()
        head = source.read(_LARGEST_POINTER)
        source.seek(position)
        _refuse_by_head(head)


def _refuse_by_head(head: bytes) -> None:
    if not head:
        raise MediaError("the file is empty")
    if is_lfs_pointer(head):
        raise MediaError("is a pointer of Git LFS and not the file itself; fetch it with `git lfs pull`")


def optional(module: str, extra: str) -> Any:
    """A package that only one of the optional extras installs.

    Raises:
        MediaError: it is not installed, or cannot be loaded.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError:
        raise MediaError(f'reading it takes the package {module}: pip install "epalm[{extra}]"') from None
    except (ImportError, OSError) as error:  # OSError: of soundfile, where the library that it wraps is not there
        raise MediaError(f"the package {module} cannot be loaded ({one_line(error)}); install it again") from None


def one_line(error: BaseException) -> str:
    """What an exception says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__
