"""What features hold without any language model: linear probes, and captions of the nearest training photographs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from epalm.data.rows import Row
from epalm.data.store import ImportedFeatures
from epalm.metrics.caption_tokens import tokenize_caption
from epalm.runtime.processes import ALONE

FloatArray = NDArray[np.float64]
_PENALTIES = np.logspace(-3, 5, 17)
_NEIGHBOURS = 10


def features_of(store: Path, rows: Sequence[Row]) -> FloatArray:
    """What a store holds of each row's file: `(N, K * E)`, all levels side by side.

    Raises:
        DataError: the store is not there or damaged.
    """
    kept = ImportedFeatures(store)
    views = [(path, None) for row in rows for path in row.media.values()]
    kept.perceive(list(dict.fromkeys(views)), lambda batches: iter(()), lambda what, done, total: None, ALONE)
    return kept.take(views).float().flatten(1).double().numpy()


def probe_answers(train: Sequence[Row], held_out: Sequence[Row], store: Path) -> list[str]:
    """Answers of linear probes, one for each question: ridge regression of the answers on the features."""
    learned, asked = features_of(store, train), features_of(store, held_out)
    commonest = Counter(row.targets[0] for row in train).most_common(1)[0][0]
    answers = [commonest] * len(held_out)
    for question in {row.question for row in held_out}:
        there = [i for i, row in enumerate(train) if row.question == question]
        here = [i for i, row in enumerate(held_out) if row.question == question]
        if there:
            labels = [train[i].targets[0] for i in there]
            for i, answer in zip(here, classify(learned[there], labels, asked[here]), strict=True):
                answers[i] = answer
    return answers


def classify(features: FloatArray, labels: Sequence[str], others: FloatArray) -> list[str]:
    """The labels that ridge regression gives to `others`.

    The penalty is the one with the least squared error when each row is left out in turn, which needs no refitting.

    Args:
        features: `(N, F)`.
        labels: N.
        others: `(M, F)`.
    """
    names = sorted(set(labels))
    targets = np.array([[float(label == name) for name in names] for label in labels])  # (N, C)
    mean, spread = features.mean(0), features.std(0)
    spread[spread == 0] = 1.0
    here, there = (features - mean) / spread, (others - mean) / spread
    centre = targets.mean(0)
    values, vectors = np.linalg.eigh(here @ here.T / here.shape[1])  # (N,), (N, N)
    turned = vectors.T @ (targets - centre)
    best: tuple[float, FloatArray] | None = None
    for penalty in _PENALTIES:
        shrunk = 1 / (np.maximum(values, 0) + penalty)
        # Residual over 1 - h of each row; the 1/N is the mean's, which is fitted as well.
        residuals = penalty * (vectors @ (shrunk[:, None] * turned))
        free = np.maximum(penalty * (vectors**2 @ shrunk) - 1 / len(labels), 1e-9)
        error = float(np.mean((residuals / free[:, None]) ** 2))
        if best is None or error < best[0]:
            best = error, vectors @ (shrunk[:, None] * turned)
    assert best is not None
    scores = there @ here.T / here.shape[1] @ best[1] + centre  # (M, C)
    return [names[i] for i in scores.argmax(1)]


def neighbours_captions(train: Sequence[Row], held_out: Sequence[Row], store: Path) -> list[str]:
    """For each photograph, of the captions of the nearest training photographs the one that is most like the others.

    Near is by the cosine of features, standardised; alike are captions by the words that they share.
    """
    learned, asked = features_of(store, train), features_of(store, held_out)
    mean, spread = learned.mean(0), learned.std(0) + 1e-9
    here, there = (learned - mean) / spread, (asked - mean) / spread
    here /= np.linalg.norm(here, axis=1, keepdims=True) + 1e-9
    nearest = np.argsort(-(there @ here.T), axis=1, kind="stable")[:, :_NEIGHBOURS]
    return [_consensus([caption for i in places for caption in train[i].targets]) for places in nearest.tolist()]


def _consensus(captions: Sequence[str]) -> str:
    words = [set(tokenize_caption(caption)) for caption in captions]

    def likeness(mine: set[str]) -> float:
        return sum(2 * len(mine & other) / max(1, len(mine) + len(other)) for other in words)

    return captions[max(range(len(captions)), key=lambda i: likeness(words[i]))]
