"""METEOR 1.5 for English (Denkowski and Lavie, WMT 2014), matched by its own Java program, as coco-caption runs it.

The program says of each row what it matched; the score is computed from that here, so that a split's score is that of
its summed counts, as the program's own is, and a bootstrap can draw rows anew.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from epalm.metrics.java import run_java
from epalm.metrics.ngrams import Tokens
from epalm.metrics.registry import FloatArray, metric

_JAR = "meteor/meteor-1.5.jar"
_COMMAND = ("-jar", "-Xmx2G", "-Dfile.encoding=UTF-8", "meteor-1.5.jar", "-", "-", "-stdio", "-l", "en", "-norm")
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.20, 0.60, 0.75
_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])
"""Of matches by exact word, stem, synonym and paraphrase."""
_SEPARATOR = "|||"


def corpus_meteor(sums: FloatArray, rows: int) -> FloatArray:
    """METEOR in percent, `(..., 1)`, from the summed rows of `meteor`, `(..., 23)`."""
    length, reference_length, functional, reference_functional = np.moveaxis(sums[..., :4], -1, 0)
    # Stages x (content words, those of the reference, function words, those of the reference).
    matched = sums[..., 4:20].reshape(*sums.shape[:-1], 4, 4)
    chunks, words, reference_words = np.moveaxis(sums[..., 20:], -1, 0)
    weighted = np.einsum("...sk,s->...k", matched, _WEIGHTS)
    precision = _share(weighted[..., 0], weighted[..., 2], length, functional)
    recall = _share(weighted[..., 1], weighted[..., 3], reference_length, reference_functional)
    mean = _ratio(precision * recall, _ALPHA * precision + (1 - _ALPHA) * recall)
    fragmentation = _ratio(chunks, (words + reference_words) / 2)
    score: FloatArray = 100 * mean * (1 - _GAMMA * fragmentation**_BETA)
    return score[..., np.newaxis]


@metric("meteor", reads="tokens", total=corpus_meteor, jars=(_JAR,))
def meteor(predictions: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> FloatArray:
    """What the program matched in each row, `(N, 23)`: 4 lengths, 16 matches by stage, chunks, 2 matched words.

    Raises:
        ConfigError: Java or the program is missing, or fails.
    """
    lines = [
        f" {_SEPARATOR} ".join(["SCORE", *map(_line, row), _line(prediction)])
        for prediction, row in zip(predictions, references, strict=True)
    ]
    output = run_java("METEOR", _COMMAND, (_JAR,), "".join(f"{line}\n" for line in lines)).splitlines()
    if len(output) != len(lines):
        raise RuntimeError(f"METEOR gave {len(output)} lines for {len(lines)} rows")
    found = np.array([line.split() for line in output], dtype=np.float64)
    length, reference_length, chunks, words, reference_words = found[:, [0, 1, 20, 21, 22]].T
    # A caption that is its reference, word for word, is one chunk, and that is no fragmentation, alone or in a sum.
    found[(chunks == 1) & (words == length) & (reference_words == reference_length), 20] = 0
    return found


def _line(tokens: Tokens) -> str:
    return " ".join(token for token in tokens if token != _SEPARATOR)


def _share(content: FloatArray, functional: FloatArray, words: FloatArray, functional_words: FloatArray) -> FloatArray:
    """Matched words out of all, where a function word counts less."""
    possible = _DELTA * (words - functional_words) + (1 - _DELTA) * functional_words
    return _ratio(_DELTA * content + (1 - _DELTA) * functional, possible)


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    """`part / whole`, 0 where there is nothing."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole != 0)
