"""Reading annotation files, with trouble told in one line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from epalm.errors import DataError


def read_json(path: Path) -> Any:
    """The content of a JSON file, or the objects of JSON Lines as a list.

    Raises:
        DataError: the file cannot be read, or is damaged.
    """
    text = _text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as whole:
        try:
            lines = [json.loads(line) for line in text.split("\n") if line.strip()]
        except json.JSONDecodeError:
            lines = []
        if not lines:
            raise DataError(f"{path}: is not JSON ({whole}); the download may be incomplete") from None
        return lines


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a header.

    Raises:
        DataError: the file cannot be read.
    """
    return list(csv.DictReader(_text(path).splitlines(keepends=True)))


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank.

    Raises:
        DataError: the file cannot be read.
    """
    return [line.strip() for line in _text(path).split("\n") if line.strip()]


def one_line(text: str) -> str:
    """`text` with single spaces and none outside, as a manifest takes it."""
    return " ".join(text.split())


def captions(texts: Iterable[str]) -> tuple[str, ...]:
    """Captions, each on one line; empty ones, which some data sets have, are left out."""
    return tuple(line for line in map(one_line, texts) if line)


def stem(name: str) -> str:
    """A file's name without directories and suffix; such names may have dots inside."""
    bare = name.rpartition("/")[2]
    return bare.rpartition(".")[0] or bare


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start + 1}); the download may be damaged") from None
