"""In which scripts texts are written, as far as scores depend on it: do spaces part words, and is it the Latin one?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_UNSPACED = {
    "Chinese or Japanese": (r"\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff", 3),
    "Thai": (r"\u0e00-\u0e7f", 8),
    "Lao": (r"\u0e80-\u0eff", 8),
    "Burmese": (r"\u1000-\u109f", 12),
    "Khmer": (r"\u1780-\u17ff", 12),
}
"""Script without spaces between words -> its signs, and how many of them a word has at most, on average."""
_PATTERNS = {script: (re.compile(f"[{signs}]+"), longest) for script, (signs, longest) in _UNSPACED.items()}
_LATIN = re.compile("[\u0041-\u024f\u1e00-\u1eff]")


def unspaced_rows(rows: Sequence[Iterable[str]]) -> dict[str, list[int]]:
    """Script that parts no words by spaces -> the rows whose texts are in it; none where spaces were put in.

    Args:
        rows: texts of each.
    """
    joined = [" ".join(texts) for texts in rows]
    foreign = [(row, text) for row, text in enumerate(joined) if not text.isascii()]
    found: dict[str, list[int]] = {}
    for script, (pattern, longest) in _PATTERNS.items():
        written = {row: runs for row, text in foreign if _make_up(runs := pattern.findall(text), text)}
        lengths = [len(run) for runs in written.values() for run in runs]
        if sum(lengths) > longest * len(lengths):
            found[script] = list(written)
    return found


def is_other_than_latin(texts: Iterable[str]) -> bool:
    """Whether most letters of these texts are of another script than the Latin one."""
    letters = [sign for text in texts if not text.isascii() for sign in text if sign.isalpha()]
    return 2 * sum(_LATIN.match(sign) is not None for sign in letters) < len(letters)


def _make_up(runs: Sequence[str], text: str) -> bool:
    """Whether these are most of a text, spaces aside."""
    return 2 * sum(map(len, runs)) > len("".join(text.split()))
