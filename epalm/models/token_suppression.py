"""Tokens that are never generated: `generate`'s `suppress_tokens`, at a cost that does not grow with their number.

transformers searches the whole vocabulary for them at every token, which takes many times longer than Gemma's output
embedding where its 6,400 control tokens are suppressed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor


class SuppressTokens(LogitsProcessor):
    """Takes tokens out of what may be said next.

    Args:
        tokens: their numbers; those that the language model has no logits for are none of its tokens.
    """

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = torch.tensor(sorted(set(tokens)), dtype=torch.long)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (rows, V), with minus infinity for the tokens."""
        if self._tokens.device != scores.device:  # once
            self._tokens = self._tokens[self._tokens < scores.shape[-1]].to(scores.device)
        return scores.index_fill(1, self._tokens, float("-inf"))
