"""CIDEr-D (Vedantam et al., CVPR 2015), as coco-caption computes it under the name CIDEr.

Mean tf-idf cosine of 1- to 4-grams between a caption and its references, with clipped counts, a Gaussian penalty on the
difference in length (sigma 6), and document frequencies taken from the references of the split itself. A split of one
row scores 0, because every n-gram then occurs in every document.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from epalm.metrics.ngrams import ORDERS, NGram, Tokens, count_ngrams
from epalm.metrics.registry import FloatArray, metric

_SIGMA = 6.0


class _Vector(NamedTuple):
    """One sentence in tf-idf space."""

    weights: list[dict[NGram, float]]
    norms: list[float]
    length: int


@metric("cider", reads="tokens")
def cider(predictions: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> FloatArray:
    """CIDEr-D of each row, `(N, 1)`, on the papers' scale: 100 times what coco-caption prints."""
    counted = [[count_ngrams(reference) for reference in row] for row in references]
    rows_with = Counter(ngram for row in counted for ngram in {ngram for counts in row for n in counts for ngram in n})
    unseen = math.log(len(references))  # the rarity of what no reference says
    rarity = {ngram: unseen - math.log(rows) for ngram, rows in rows_with.items()}
    scores = np.zeros((len(predictions), 1))
    for row, (prediction, counts) in enumerate(zip(predictions, counted, strict=True)):
        vector = _vector(count_ngrams(prediction), rarity, unseen)
        scores[row] = np.mean([_similarity(vector, _vector(reference, rarity, unseen)) for reference in counts])
    return 1000 * scores  # times 10 is the metric's own definition, times 100 the papers' habit


def _vector(counts: list[Counter[NGram]], rarity: Mapping[NGram, float], unseen: float) -> _Vector:
    weights = [{ngram: count * rarity.get(ngram, unseen) for ngram, count in order.items()} for order in counts]
    norms = [math.sqrt(sum(weight * weight for weight in order.values())) for order in weights]
    # coco-caption measures length in bigrams.
    return _Vector(weights, norms, counts[1].total())


def _similarity(mine: _Vector, reference: _Vector) -> float:
    """Mean over the four orders of the clipped cosine, times the length penalty."""
    total = 0.0
    for order in range(ORDERS):
        norm = mine.norms[order] * reference.norms[order]
        if norm == 0.0:
            continue
        theirs = reference.weights[order]
        # In the caption's own order, not a set's: a set's would change the last digit from run to run.
        shared = ((weight, theirs[ngram]) for ngram, weight in mine.weights[order].items() if ngram in theirs)
        total += sum(min(weight, other) * other for weight, other in shared) / norm
    return total / ORDERS * math.exp(-((mine.length - reference.length) ** 2) / (2 * _SIGMA**2))
