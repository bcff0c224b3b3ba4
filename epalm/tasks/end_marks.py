"""How a question or an instruction ends, in any script: `?`, `؟`, `;`, `.`, `!`, `。`, `…`, and quotes behind them."""

from __future__ import annotations

import re
import unicodedata

_NAMES = re.compile(
    r"\b(QUESTION|EXCLAMATION|INTERROBANG|FULL STOP|ELLIPSIS|COLON|SEMICOLON|DANDA|SHAD|KHAN|SIGN SECTION)\b"
)
"""What Unicode calls marks that end a sentence, or lead over to what is asked for."""
_QUESTION_MARKS = "?？"
"""Which of the two a question is written with makes no difference."""
_INVISIBLE = " \u200b\u200e\u200f\u061c\u2060\ufeff"
"""Spaces of no width and marks of direction."""


def one_end_mark(question: str, after: str) -> tuple[str, str]:
    """`question` and the text of a template behind it, with one end mark among them.

    A question mark of the template stands for the question's `?` or `？`, however many there are; any other mark that
    the question ends in takes the place of the template's.
    """
    question = question.rstrip(_INVISIBLE)
    bare = question.rstrip(_QUESTION_MARKS + _INVISIBLE)
    mark, rest = _leading_mark(after)
    if bare == question:
        return (_without_repeats(question), rest) if has_end_mark(question) else (question, after)
    if _is_question_mark(mark[-1:]):
        return bare, after
    return bare + question[len(bare) :].lstrip(_INVISIBLE)[0], rest


def has_end_mark(text: str) -> bool:
    """Whether `text` ends in a mark, but for closing quotes, brackets and spaces, or has Armenian's, on a vowel."""
    last = next((letter for letter in reversed(text) if not _may_follow(letter)), "")
    return _is_end_mark(last) or "՞" in text


def is_blank(text: str) -> bool:
    """Whether `text` is nothing but marks, quotes and spaces."""
    return all(_may_follow(letter) or _is_end_mark(letter) for letter in text)


def _leading_mark(text: str) -> tuple[str, str]:
    """The end marks at the beginning of `text`, with spaces before them, and the rest."""
    bare = text.lstrip(" ")
    marks = next((i for i, letter in enumerate(bare) if not _is_end_mark(letter)), len(bare))
    return (text[: len(text) - len(bare) + marks], bare[marks:]) if marks else ("", text)


def _without_repeats(text: str) -> str:
    """`text` with one question mark at its end, where there are several of one kind."""
    bare = text.rstrip(text[-1]) if _is_question_mark(text[-1:]) else text[:-1]
    return bare + text[-1]


def _is_question_mark(letter: str) -> bool:
    return "QUESTION MARK" in _name(letter)


def _is_end_mark(letter: str) -> bool:
    return bool(letter) and unicodedata.category(letter) in ("Po", "So") and _NAMES.search(_name(letter)) is not None


def _may_follow(letter: str) -> bool:
    """Whether an end mark counts that stands before it: quotes, closing brackets, spaces, and what shows nothing."""
    closing = unicodedata.category(letter) in ("Pe", "Pf", "Pi", "Cf", "Zs")
    return closing or letter in "\"'" or letter.isspace() or "VARIATION SELECTOR" in _name(letter)


def _name(letter: str) -> str:
    return unicodedata.name(letter, "") if letter else ""
