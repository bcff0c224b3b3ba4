"""Tokens that are never generated: `generate`'s `suppress_tokens`, at a cost that does not grow with their number.

transformers looks the whole vocabulary up among them at every token, which is slow where they are thousands (Gemma).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from transformers import LogitsProcessor


class SuppressTokens(LogitsProcessor):
    """Takes tokens out of what may be said next.

    Args:
        tokens: their numbers.
        vocabulary: how many logits there are; a number beyond counts for nothing.
    """

    def __init__(self, tokens: Iterable[int], vocabulary: int) -> None:
        self._tokens = torch.tensor([token for token in tokens if 0 <= token < vocabulary], dtype=torch.long)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (rows, V), with minus infinity for the tokens."""
        self._tokens = self._tokens.to(scores.device)
        return scores.index_fill(1, self._tokens, float("-inf"))
