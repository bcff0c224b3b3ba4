"""Files of results: looked at before hours of work are spent on them, and whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from epalm.errors import ConfigError


def check_writable(path: Path, what: str) -> None:
    """See that `path` can be written later; nothing is left behind.

    Args:
        path: a file, there or not yet.
        what: names it in messages, such as `--json`.

    Raises:
        ConfigError: it is a directory, or nothing can be written there.
    """
    if os.path.isdir(path):  # noqa: PTH112  Path.is_dir raises where a path is too long
        raise ConfigError(f"{what}: {path} is a directory; name a file")
    if not os.path.isdir(path.parent):  # noqa: PTH112
        raise ConfigError(f"{what}: there is no directory {path.parent}; make it, or name another file")
    if _is_device(path):  # opening a pipe would wait for its reader
        return
    try:
        _beside(path).touch()
        _beside(path).unlink()
    except OSError as error:
        raise _cannot(path, what, error) from None


def write_whole(path: Path, lines: Iterable[str], what: str) -> None:
    """Write beside `path`, then rename: an older file is replaced at once or not at all.

    Raises:
        ConfigError: it cannot be written.
    """
    target = path if _is_device(path) else _beside(path)
    try:
        # A file name that is not UTF-8 is written as an escape, which JSON reads as well.
        with target.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.writelines(lines)
        if target != path:
            target.replace(os.path.realpath(path))
    except OSError as error:
        raise _cannot(path, what, error) from None
    finally:
        if target != path:
            target.unlink(missing_ok=True)


def _is_device(path: Path) -> bool:
    """Whether it is a pipe, a terminal, standard output or the like, which no file may take the place of."""
    is_system = os.path.abspath(path).startswith(("/dev/", "/proc/"))  # noqa: PTH100
    return os.path.exists(path) and (is_system or not os.path.isfile(path))  # noqa: PTH110, PTH113


def _beside(path: Path) -> Path:
    """A name in the same directory; that of the file itself where `path` is a link."""
    real = Path(os.path.realpath(path))
    return real.with_name(f".{real.name}.{os.getpid()}.part")


def _cannot(path: Path, what: str, error: OSError) -> ConfigError:
    return ConfigError(f"{what}: {path} cannot be written: {error.strerror}")
