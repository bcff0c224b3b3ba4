"""One line of a manifest -> one row, or what is wrong with it and what to do."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from epalm.data.media_finder import Match, MediaFinder, is_file
from epalm.data.rows import MODALITIES, Row
from epalm.data.strict_json import RepeatedNameError, parse_json

EXAMPLE = '{"image": "a.jpg", "caption": "..."}'
"""A right row, for messages."""

_TARGET_FIELDS = ("caption", "captions", "answer", "answers")
_FIELDS = (*MODALITIES, "question", *_TARGET_FIELDS, "id", "groups")
_MOST_NAMED = 3


class RowError(Exception):
    """What is wrong with one row, and what to do."""


class RowReader:
    """Turns lines into rows and remembers what must be looked at across rows: ids and media files."""

    def __init__(self, folder: Path, require_answers: bool) -> None:
        self._folder = folder
        self._require_answers = require_answers
        self._files: dict[str, tuple[Path, int]] = {}  # as written -> file, first row that names it
        self._found: dict[Path, Match | None] = {}  # of files that are not there as written
        self._finder = MediaFinder()
        self._ids: dict[str, int] = {}
        # Questions and answers come again and again: checked once, and one string in memory for all of them.
        self._texts: dict[str, str] = {}

    def read(self, number: int, line: bytes) -> Row:
        """One row.

        Raises:
            RowError: the line is not a row.
        """
        fields = _parse(line)
        for name in fields:
            if name not in _FIELDS:
                raise RowError(f"unknown field {_shown(name)}{_nearest(name)}")
        media = {modality: self._file(modality, fields, number) for modality in MODALITIES if modality in fields}
        if not media:
            raise RowError("names nothing to perceive; add a field 'image', 'video' or 'audio' with a path")
        question = self._text(fields["question"], "question") if "question" in fields else None
        targets, weights = self._targets(fields, question)
        groups = self._groups(fields.get("groups", {}))
        return Row(media, question, targets, weights, self._id(fields, number), number, groups)

    def look_up_media(self) -> None:
        """Look for every file that a row names, once; see `missing_media`, `with_found_media` and `notes`."""
        for written, (file, _) in self._files.items():
            if not is_file(file):
                self._found[file] = self._finder.find(self._folder, written)

    def missing_media(self) -> list[tuple[int, str]]:
        """One problem that counts all files that were looked up and are not there, or none."""
        absent = {file for file, match in self._found.items() if match is None}
        if not absent:
            return []
        missing = [(row, written) for written, (file, row) in self._files.items() if file in absent]
        examples = ", ".join(f"{_shown(written)} (row {row})" for row, written in missing[:_MOST_NAMED])
        rest = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        count = f"{len(missing)} of {len(self._files)} media files are missing"
        where = f"paths are relative to {self._folder.absolute()}"
        hints = (self._finder.hint(self._folder, written) for _, written in missing[:_MOST_NAMED])
        remedy = next(filter(None, hints), "put the files there or correct the paths")
        return [(missing[0][0], f"{count}: {examples}{rest}; {where}; {remedy}")]

    def with_found_media(self, rows: Sequence[Row]) -> list[Row]:
        """The rows, with files that are there under another spelling of their path in place of what was written."""
        found = {file: match.path for file, match in self._found.items() if match is not None}
        if not found:
            return list(rows)
        return [replace(row, media={name: found.get(path, path) for name, path in row.media.items()}) for row in rows]

    def notes(self) -> Iterator[str]:
        """What a user should know of media that were found under another spelling of their path, if there are some."""
        if not self._found:
            return
        respelt = [
            (row, written, match.difference)
            for written, (file, row) in self._files.items()
            if (match := self._found.get(file)) is not None
        ]
        if respelt:
            row, written, difference = respelt[0]
            yield (
                f"{len(respelt)} of {len(self._files)} media files are there under another spelling of their path: "
                f"{_shown(written)} (row {row}) has {difference}"
            )

    def _text(self, value: Any, field: str) -> str:
        """`_text`, remembered."""
        if not isinstance(value, str):
            return _text(value, field)
        checked = self._texts.get(value)
        if checked is None:
            checked = self._texts[value] = _text(value, field)
        return checked

    def _file(self, modality: str, fields: dict[str, Any], number: int) -> Path:
        written = self._text(fields[modality], modality)
        if written not in self._files:
            self._files[written] = (self._folder / written, number)
        return self._files[written][0]

    def _id(self, fields: dict[str, Any], number: int) -> str:
        value = fields.get("id", number)
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise RowError(f"field 'id' must be a string or a whole number, not {_kind(value)}")
        name = str(value) if isinstance(value, int) else _text(value, "id")
        first = self._ids.setdefault(name, number)
        if first != number:
            raise RowError(f"field 'id' is {_shown(name)}, as in row {first}; give every row its own")
        return name

    def _groups(self, value: Any) -> dict[str, str]:
        if not isinstance(value, dict):
            raise RowError(f"field 'groups' must be an object of texts, not {_kind(value)}")
        return {self._text(kind, "groups"): self._text(name, "groups") for kind, name in value.items()}

    def _targets(
        self, fields: dict[str, Any], question: str | None
    ) -> tuple[tuple[str, ...], tuple[float, ...] | None]:
        present = [name for name in _TARGET_FIELDS if name in fields]
        expected = "caption" if question is None else "answer"
        if len(present) > 1:
            raise RowError(f"has both '{present[0]}' and '{present[1]}'; keep one of them")
        if not present:
            if self._require_answers:
                add = "'caption' or 'captions'" if question is None else "'answer' or 'answers'"
                raise RowError(f"has no {expected}; add a field {add}")
            return (), None
        name = present[0]
        if not name.startswith(expected):
            remedy = "add a 'question' or write 'caption'" if question is None else "write 'answer' or drop 'question'"
            raise RowError(f"field '{name}' does not go with {'no' if question is None else 'a'} question; {remedy}")
        value = fields[name]
        if name == "answers" and isinstance(value, dict):
            return _soft_answers(value)
        if name in ("caption", "answer"):
            if isinstance(value, list | dict):
                raise RowError(f"field '{name}' must be a string, not {_kind(value)}; use '{name}s' for several")
            return (self._text(value, name),), None
        if not isinstance(value, list):
            raise RowError(f"field '{name}' must be a list, not {_kind(value)}; use '{name[:-1]}' for one")
        if not value:
            raise RowError(f"field '{name}' is an empty list; give at least one {expected}")
        return tuple([self._text(text, name) for text in value]), None


def _parse(line: bytes) -> dict[str, Any]:
    try:
        fields = parse_json(line.decode("utf-8"))
    except RepeatedNameError as error:
        raise RowError(str(error)) from None
    except UnicodeDecodeError as error:
        raise RowError(f"is not UTF-8 (byte {error.start + 1} of the line); save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        problem = f"{error.msg}, column {error.colno}"
        raise RowError(f"is not valid JSON ({problem}); write one object a line, such as {EXAMPLE}") from None
    if not isinstance(fields, dict):
        raise RowError(f"holds {_kind(fields)}, not an object; write one object a line, such as {EXAMPLE}")
    return fields


def _soft_answers(answers: dict[str, Any]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    if not answers:
        raise RowError("field 'answers' is empty; give at least one answer")
    for answer, weight in answers.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
            raise RowError(f"field 'answers' scores {_shown(answer)} with {_shown(weight)}; give a number from 0 to 1")
    return tuple(_text(answer, "answers") for answer in answers), tuple(float(weight) for weight in answers.values())


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        as_text = f'; write "{value}"' if isinstance(value, int | float) and not isinstance(value, bool) else ""
        raise RowError(f"field '{field}' must hold text, not {_kind(value)}{as_text}")
    value = value.strip()
    if not value:
        raise RowError(f"field '{field}' is empty; fill it in or leave the row out")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise RowError(f"field '{field}' has half a character (an unpaired surrogate); write it whole") from None
    return value


def _kind(value: Any) -> str:
    """A JSON value's kind in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return f"the number {value}" if math.isfinite(value) else "a number that is not finite"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "an object"


def _shown(value: Any) -> str:
    """`value` in quotes, short, on one line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]}...{text[-1]}"


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), _FIELDS, n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else f"; the fields are {', '.join(_FIELDS)}"
