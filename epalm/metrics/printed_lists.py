"""Texts that are a whole list printed into one: what `str(["a dog", "a cat"])` leaves in a column of a table."""

from __future__ import annotations

_CLOSING = {"[": "]", "(": ")", "{": "}"}
_QUOTES = "'\""


def is_printed_list(text: str) -> bool:
    """Whether `text` reads like a list, a tuple or an object of texts, as Python or JSON prints it."""
    text = text.strip()
    if len(text) < 4 or _CLOSING.get(text[0]) != text[-1]:
        return False
    inside = text[1:-1].strip(" ,")
    return inside[:1] in _QUOTES and (text[0] == "{" or inside[-1:] in _QUOTES) and len(inside) > 1
