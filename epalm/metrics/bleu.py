"""BLEU-1 to BLEU-4 over a corpus (Papineni et al., ACL 2002), as coco-caption computes them.

Clipped n-gram matches and lengths are summed over the whole split before anything is divided; the reference length of a
row is that of its closest reference, the shorter of two equally close.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from epalm.metrics.ngrams import ORDERS, NGram, Tokens, count_ngrams
from epalm.metrics.registry import FloatArray, metric

# coco-caption keeps divisions by zero away with these; a corpus without a match scores (almost) 0 instead of failing.
_TINY, _SMALL = 1e-15, 1e-9


def corpus_bleu(sums: FloatArray, rows: int) -> FloatArray:
    """BLEU-1 to BLEU-4 in percent, `(..., 4)`, from the summed rows of `bleu`, `(..., 10)`."""
    matched, possible = sums[..., :ORDERS], sums[..., ORDERS : 2 * ORDERS]
    length, reference_length = sums[..., -2], sums[..., -1]
    precision = (matched + _TINY) / (possible + _SMALL)
    # Geometric means of the first 1, 2, 3, 4.
    score = np.cumprod(precision, axis=-1) ** (1 / np.arange(1, ORDERS + 1))
    ratio = (length + _TINY) / (reference_length + _SMALL)
    brevity: FloatArray = np.minimum(1.0, np.exp(np.minimum(0.0, 1 - 1 / ratio)))
    return 100 * score * brevity[..., np.newaxis]


@metric("bleu_1", "bleu_2", "bleu_3", "bleu_4", reads="tokens", total=corpus_bleu)
def bleu(predictions: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> FloatArray:
    """What each row adds to the corpus counts, `(N, 10)`: 4 matched, 4 possible, length, reference length."""
    return np.array([_row(*pair) for pair in zip(predictions, references, strict=True)], dtype=np.float64)


def _row(prediction: Tokens, references: Sequence[Tokens]) -> list[int]:
    length = len(prediction)
    allowed: list[Counter[NGram]] = [Counter() for _ in range(ORDERS)]
    for reference in references:
        for most, counts in zip(allowed, count_ngrams(reference), strict=True):
            most |= counts  # the largest count in any one reference
    matched = [(mine & most).total() for mine, most in zip(count_ngrams(prediction), allowed, strict=True)]
    possible = [max(0, length - skipped) for skipped in range(ORDERS)]
    closest = min((abs(len(reference) - length), len(reference)) for reference in references)[1]
    return [*matched, *possible, length, closest]
