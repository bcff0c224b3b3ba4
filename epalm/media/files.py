"""What reading any media file shares: its name in a message, the refusals said in plain words, and optional packages.

A decoder meets damage with whatever exception comes first, and names neither the file nor what to do. `naming` makes
one `MediaError` of one line out of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

from epalm.errors import MediaError

FileSource = str | PathLike[str] | BinaryIO


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
        MediaError: a directory, no regular file, or an empty one.
    """
    if isinstance(source, (str, PathLike)):
        path = Path(source)
        if path.is_dir():
            raise MediaError(f"is a directory, not {kind}")
        if not path.exists():
            raise FileNotFoundError(path)
        if not path.is_file():
            raise MediaError("is not a regular file")
        if path.stat().st_size == 0:
            raise MediaError("the file is empty")
    elif source.seekable():
        position = source.tell()
        first = len(source.read(1))
        source.seek(position)
        if not first:
            raise MediaError("the file is empty")


def optional(module: str, extra: str) -> Any:
    """A package that only one of the optional extras installs.

    Raises:
        MediaError: it is not installed, or cannot be loaded.
    """
    try:
        return import_module(module)
    except ImportError:
        raise MediaError(f'reading it takes the package {module}: pip install "epalm[{extra}]"') from None


def one_line(error: BaseException) -> str:
    """What an exception says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__
