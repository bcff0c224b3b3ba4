"""The question, and the captions or answers, out of fields as others name and fill them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from epalm.data.published.files import captions

CAPTION_FIELDS = ("captions", "caption", "text", "txt")
ANSWER_FIELDS = ("answers", "answer")
FIELDS = ("question", *CAPTION_FIELDS, *ANSWER_FIELDS)
"""All that are looked at; of those for captions, and for answers, the first that says something counts."""
_OBJECT_FIELDS = (*CAPTION_FIELDS, *ANSWER_FIELDS, "raw")
"""Of a caption or an answer that is an object, such as {"answer": "a dog", "answer_id": 1}."""

NO_TEXT = "has no caption, and no question with an answer"
_SEVERAL = "has several questions; give each a row of its own"
_TOO_DEEP = "has text in lists that are nested too deeply"
_NOT_UNICODE = "has text that is not Unicode (bytes that are not UTF-8, or half a character)"


@dataclass(frozen=True)
class Texts:
    """What is said of one sample."""

    question: str | None
    targets: tuple[str, ...]
    """Captions, or answers where there is a question; at least one."""


def read_texts(fields: Mapping[str, Any]) -> Texts | str:
    """What the fields of a sample say, or why it is left out."""
    try:
        return _read_texts(fields)
    except RecursionError:
        return _TOO_DEEP


def _read_texts(fields: Mapping[str, Any]) -> Texts | str:
    questions = captions(_texts(fields.get("question")))
    if len(questions) > 1:
        return _SEVERAL
    found = (captions(_texts(fields.get(name))) for name in (ANSWER_FIELDS if questions else CAPTION_FIELDS))
    targets = next(filter(None, found), ())
    if not targets:
        return NO_TEXT
    if not all(map(_is_whole, (*questions, *targets))):
        return _NOT_UNICODE
    return Texts(questions[0] if questions else None, targets)


def _texts(value: Any) -> list[str]:
    """The texts in a field: one, a list, objects that hold them, or a number; NaN, as tables have it, is none."""
    if isinstance(value, list):
        return [text for part in value for text in _texts(part)]
    if isinstance(value, dict):
        return next(([*_texts(value[name])] for name in _OBJECT_FIELDS if name in value), [])
    if isinstance(value, float):  # whole numbers become such where a column has gaps
        return [str(int(value) if value.is_integer() else value)] if math.isfinite(value) else []
    if isinstance(value, bytes):
        return [value.decode("utf-8-sig", "surrogateescape")]
    return [] if isinstance(value, bool) or value is None else [str(value)]


def _is_whole(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
