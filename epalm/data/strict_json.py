"""JSON in which nothing is lost in silence, and that fails in one way whatever is wrong with it."""

from __future__ import annotations

import json
from typing import Any


class RepeatedNameError(Exception):
    """A JSON object gives one name twice. The message says which, and what to do."""


def parse_json(text: str | bytes) -> Any:
    """What JSON says.

    Raises:
        RepeatedNameError: an object gives a name twice, of which the first value would be lost.
        json.JSONDecodeError: it is no JSON, or none that can be read here.
    """
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text), "surrogatepass")
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise json.JSONDecodeError("nested too deeply", "", 0) from None
    except ValueError:
        raise json.JSONDecodeError("a number of thousands of digits", "", 0) from None


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise RepeatedNameError(f"gives {repeated!r} twice; keep one, or use a list")
    return fields


_DECODER = json.JSONDecoder(object_pairs_hook=_unrepeated)
