"""Counting word n-grams, which BLEU and CIDEr both stand on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

Tokens = Sequence[str]
NGram = tuple[str, ...]

ORDERS = 4
"""Both scores look at runs of one to four words."""


def count_ngrams(tokens: Tokens) -> list[Counter[NGram]]:
    """How often each n-gram occurs; item `n - 1` counts the runs of n words."""
    runs = [tokens[skipped:] for skipped in range(ORDERS)]
    return [Counter(zip(*runs[:order], strict=False)) for order in range(1, ORDERS + 1)]
