"""The best fixed sentence: what a caption scores that is the same of every photograph."""

from __future__ import annotations

from collections.abc import Sequence

from epalm.data.rows import Row
from epalm.metrics.caption_tokens import tokenize_caption
from epalm.metrics.cider import cider


def best_sentence(train: Sequence[Row], held_out: Sequence[Row]) -> str:
    """Of all captions that there are to learn from the one with the highest CIDEr, said of every row held out.

    It is chosen on the very rows that it is scored on, so that no fixed sentence of the training rows has more.
    """
    references = [[tokenize_caption(caption) for caption in row.targets] for row in held_out]
    candidates = list(dict.fromkeys(caption for row in train for caption in row.targets))

    def score(candidate: str) -> float:
        return float(cider([tokenize_caption(candidate)] * len(references), references).mean())

    return max(candidates, key=score)
