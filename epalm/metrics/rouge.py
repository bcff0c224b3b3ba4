"""ROUGE-L (Lin, 2004), as coco-caption computes it: F-measure of the longest common subsequence, beta 1.2.

Precision and recall are each the best over the references, so they may come from different ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from epalm.metrics.ngrams import Tokens
from epalm.metrics.registry import FloatArray, metric

_BETA = 1.2


@metric("rouge_l", reads="tokens")
def rouge_l(predictions: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> FloatArray:
    """ROUGE-L of each row in percent, `(N, 1)`."""
    return np.array([[100 * _f_measure(*pair)] for pair in zip(predictions, references, strict=True)])


def _f_measure(prediction: Tokens, references: Sequence[Tokens]) -> float:
    common = [longest_common_subsequence(prediction, reference) for reference in references]
    precision = max(common) / max(1, len(prediction))
    recall = max(length / max(1, len(reference)) for length, reference in zip(common, references, strict=True))
    if precision == 0.0:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def longest_common_subsequence(first: Tokens, second: Tokens) -> int:
    """Length of the longest sequence of tokens that both contain in order, gaps allowed."""
    before = [0] * (len(second) + 1)
    for token in first:
        now = [0]
        for column, other in enumerate(second):
            now.append(before[column] + 1 if token == other else max(before[column + 1], now[column]))
        before = now
    return before[-1]
