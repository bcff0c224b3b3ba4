"""Data of one's own: JSON Lines, one object a line, checked as a whole before anything is trained on it.

    {"image": "a.jpg", "caption": "..."}                    or "captions": ["...", "..."]
    {"image": "a.jpg", "question": "...", "answer": "..."}  or "answers": ["...", "..."] or {"...": 0.6, "...": 1}

`"video"` and `"audio"` work as `"image"` does, and several may stand in one row. Paths are relative to the manifest;
`epalm.data.media_finder` tells which may be spelt in another way than on disk. An `"id"` may be given; a row without
one goes by its line number. `"groups": {"answer_type": "yes/no"}` has a row scored apart, too. A row of a test split
may lack its answer or caption; one whose answers all score 0 counts as wrong. The file is UTF-8; blank lines are
skipped.
"""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from epalm.data.row_reader import EXAMPLE, RowError, RowReader
from epalm.data.rows import Row
from epalm.errors import DataError

__all__ = ["Row", "read_manifest", "write_manifest"]

_MOST_PROBLEMS = 100
_MOST_NAMED = 3


def read_manifest(
    path: str | Path,
    *,
    require_answers: bool = True,
    check_media: bool = True,
    find_media: bool = False,
    on_note: Callable[[str], None] = lambda line: None,
) -> list[Row]:
    """All rows of a manifest, in order.

    Args:
        path: the manifest.
        require_answers: every row must have an answer or a caption; turn it off to predict for rows without.
        check_media: every file that a row names must be there. Each distinct path is looked up once.
        find_media: look files up though none need be there, to find those whose paths are spelt in another way.
        on_note: told, in a line, of files that were found under another spelling of their path.

    Raises:
        DataError: the file cannot be read, is empty, or a row is wrong. The message is one line: the first problem with
            its row, field and remedy, and how many more there are, and where.
    """
    path = Path(path)
    reader = RowReader(path.parent, require_answers)
    rows: list[Row] = []
    problems: list[tuple[int, str]] = []
    for number, line in _lines(path):
        try:
            rows.append(reader.read(number, line))
        except RowError as error:
            problems.append((number, str(error)))
            if len(problems) == _MOST_PROBLEMS:
                break
    if check_media or find_media:
        reader.look_up_media()
    if check_media:
        problems += reader.missing_media()
    if problems:
        raise DataError(_summary(path, problems))
    if not rows:
        raise DataError(f"{path}: there are no rows in it; write one JSON object a line, such as {EXAMPLE}")
    for note in reader.notes():
        on_note(f"{path}: {note}")
    return reader.with_found_media(rows)


def write_manifest(rows: Iterable[Row], path: str | Path) -> None:
    """Write `rows` so that `read_manifest` gives them back; an older file is replaced at once or not at all.

    Paths are written relative to the manifest's directory, which is made if need be.

    Raises:
        DataError: a path or a text is not Unicode.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(json.dumps(_as_fields(row, path.parent), ensure_ascii=False) + "\n" for row in rows)
        unfinished.replace(path)
    except UnicodeEncodeError as error:
        shown = ascii(error.object[max(0, error.start - 20) : error.end])
        raise DataError(
            f"{path}: cannot hold what is not Unicode, as at the end of {shown}; rename or mend it"
        ) from None
    finally:
        unfinished.unlink(missing_ok=True)


def _as_fields(row: Row, folder: Path) -> dict[str, Any]:
    fields: dict[str, Any] = {
        modality: Path(os.path.relpath(file, folder)).as_posix() for modality, file in row.media.items()
    }
    singular = "caption" if row.question is None else "answer"
    if row.question is not None:
        fields["question"] = row.question
    if row.weights is not None:
        fields["answers"] = dict(zip(row.targets, row.weights, strict=True))
    elif len(row.targets) == 1:
        fields[singular] = row.targets[0]
    elif row.targets:
        fields[f"{singular}s"] = list(row.targets)
    if row.id:
        fields["id"] = row.id
    if row.groups:
        fields["groups"] = dict(row.groups)
    return fields


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Line numbers from 1, and what is on each line that is not blank."""
    if path.is_dir():
        found = ", ".join(sorted(child.name for child in path.glob("*.jsonl"))[:_MOST_NAMED])
        raise DataError(f"{path}: is a directory; name a manifest in it{f', such as {found}' if found else ''}")
    if not path.exists():
        raise DataError(f"{path}: no such file; give a JSON Lines manifest")
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if number == 1:
                    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                        raise DataError(f"{path}: is written in UTF-16; save it as UTF-8")
                    line = line.removeprefix(codecs.BOM_UTF8)
                if line.strip():
                    yield number, line
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def _summary(path: Path, problems: list[tuple[int, str]]) -> str:
    """The first problem, then how many more there are, and in which rows."""
    (row, message), *others = problems
    text = f"{path}, row {row}: {message}"
    if not others:
        return text
    count = f"at least {len(others)}" if len(problems) >= _MOST_PROBLEMS else f"{len(others)}"
    others_at = ", ".join(str(number) for number, _ in others[:_MOST_NAMED])
    rest = ", ..." if len(others) > _MOST_NAMED else ""
    what = "problem, in row" if len(others) == 1 else "problems, in rows"
    return f"{text} (and {count} more {what} {others_at}{rest})"
