"""Reading annotation files, with trouble told in one line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from epalm.data.strict_json import RepeatedNameError, parse_json
from epalm.data.system_files import lfs_advice
from epalm.errors import DataError

_LONGEST_FIELD = 2**31 - 1
"""Of CSV, in characters: some hold whole files as text."""


def read_json(path: Path) -> Any:
    """The content of a JSON file, or the objects of JSON Lines as a list.

    Raises:
        DataError: the file cannot be read, or is damaged.
    """
    text = _text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as whole:  # also of numbers of thousands of digits, or nested without end
        try:
            lines = [json.loads(line) for line in text.split("\n") if line.strip()]
        except (ValueError, RecursionError):
            lines = []
        if not lines:
            raise DataError(f"{path}: is not JSON ({whole}); the download may be incomplete") from None
        return lines


def read_objects(path: Path, example: str) -> list[tuple[str, dict[str, Any]]]:
    """The objects of JSON Lines, or of a JSON list, and where each stands in the file, such as `line 3`.

    Args:
        path: the file.
        example: of a line, for messages.

    Raises:
        DataError: the file cannot be read, holds something else, or an object gives one name twice.
    """
    text = _text(path)
    entries: list[tuple[str, Any]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entries.append((f"line {number}", parse_json(line)))
        except RepeatedNameError as error:
            raise DataError(f"{path}, line {number}: {error}") from None
        except json.JSONDecodeError as error:
            if entries:
                raise DataError(
                    f"{path}, line {number}: is not JSON ({error}); write lines such as {example}"
                ) from None
            entries = [("", _whole(path, text))]
            break
    if len(entries) == 1 and isinstance(entries[0][1], list):
        entries = [(f"entry {number}", entry) for number, entry in enumerate(entries[0][1], start=1)]
    if not all(isinstance(entry, dict) for _, entry in entries):
        raise DataError(f"{path}: not every line is an object; write lines such as {example}")
    return entries


def _whole(path: Path, text: str) -> Any:
    """What a file says that holds one JSON value in several lines."""
    try:
        return parse_json(text)
    except RepeatedNameError as error:
        raise DataError(f"{path}: an object {error}") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: is not JSON ({error}); the download may be incomplete") from None


def read_csv(path: Path, otherwise: str | None = None) -> list[dict[str, str]]:
    """The rows of a CSV file with a header, whose fields are parted by commas or by semicolons.

    Args:
        path: the file.
        otherwise: encoding of a file that is not UTF-8; unset: such a file is refused.

    Raises:
        DataError: the file cannot be read, the header names a column twice, or a row has fewer fields than the header,
            or more, or a quote that is not closed.
    """
    text = _text(path, otherwise)
    first = text.partition("\n")[0]
    delimiter = ";" if first.count(";") > first.count(",") else ","
    # Lines end where CSV has them end: a caption may hold signs that Python takes for the end of one. The last ends,
    # too, so that a quote that is open there holds the end of it.
    raw = list(io.StringIO(text if text.endswith("\n") else f"{text}\n", newline=""))
    lines = csv.reader(raw, delimiter=delimiter)
    header: list[str] | None = None
    rows: list[dict[str, str]] = []
    start = 1
    limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        for fields in lines:
            _require_closed_quotes(path, fields, start, raw[start - 1 : lines.line_num], delimiter)
            if header is None:
                header = fields or None
                repeated = next((name for name in fields if name.strip() and fields.count(name) > 1), None)
                if repeated is not None:
                    raise DataError(f"{path}, line {start}: names column {repeated!r} twice; keep one")
            elif fields:
                if len(fields) < len(header) or any(fields[len(header) :]):
                    problem = (
                        f"has {len(fields)} fields, the header {len(header)}; look for a quote or a comma too many"
                    )
                    raise DataError(f"{path}, line {start}: {problem}")
                rows.append(dict(zip(header, fields, strict=False)))
            start = lines.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {start}: is not CSV ({error}); look for a quote that is not closed") from None
    finally:
        csv.field_size_limit(limit)
    return rows


def _require_closed_quotes(path: Path, fields: list[str], start: int, raw: list[str], delimiter: str) -> None:
    """See that a field with several lines ends where its quote is closed, and has not taken in the rows behind it.

    Args:
        path: the file.
        fields: of a row, as they were read.
        start: the row's first line, from 1.
        raw: its lines.
        delimiter: what parts its fields.

    Raises:
        DataError: it does not.
    """
    several = [number for number, field in enumerate(fields) if "\n" in field]
    if not several:
        return
    try:
        list(csv.reader(raw, delimiter=delimiter, strict=True))
    except csv.Error:
        opened = start + sum(field.count("\n") for field in fields[: several[-1]])
        raise DataError(f"{path}, line {opened}: has a quote that is not closed; close it, or double it") from None


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


def _text(path: Path, otherwise: str | None = None) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        if otherwise is not None:
            return path.read_text(encoding=otherwise)
        raise DataError(
            f"{path}: is not UTF-8 text (byte {error.start + 1}); save it as UTF-8, or fetch it again"
        ) from None
    if advice := lfs_advice(path):
        raise DataError(f"{path}: cannot be read{advice}")
    return text
