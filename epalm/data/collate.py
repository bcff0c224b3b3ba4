"""Rows of tokens of different lengths -> one batch of tensors.

Shapes: B batch, T the longest row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

IGNORED = -100
"""Label of a token that is not learned: what PyTorch's cross-entropy leaves out by default."""


class Encoded(NamedTuple):
    """One row as tokens."""

    prompt_ids: list[int]
    """What is given: begin-of-text, question, cue. Never empty, so that generation has something to start from."""
    target_ids: list[int]
    """What is to be said: answer or caption, and the end token."""


@dataclass(frozen=True)
class TextBatch:
    """What a causal language model is trained on."""

    input_ids: Tensor
    """(B, T) long; padding holds the pad id."""
    attention_mask: Tensor
    """(B, T) long; 1 for tokens, 0 for padding."""
    labels: Tensor
    """(B, T) long, in place (the model shifts them); -100 where nothing is learned."""

    def to(self, device: torch.device | str) -> TextBatch:
        """The same batch on another device."""
        return TextBatch(self.input_ids.to(device), self.attention_mask.to(device), self.labels.to(device))


def collate(
    rows: Sequence[tuple[Sequence[int], Sequence[int]]],
    pad_id: int,
    *,
    loss_on: Literal["answer", "all"] = "answer",
    side: Literal["left", "right"] = "right",
    least: int = 0,
) -> TextBatch:
    """Prompt and target of each row, one after the other, padded to the longest row.

    Args:
        rows: (prompt ids, target ids) pairs, such as `Encoded`; with empty targets, a batch to generate from.
        pad_id: what fills the padding; any token, since padding is masked.
        loss_on: `answer`: labels on the target alone; `all`: on the prompt as well, but never on a row's first token,
            which is begin-of-text, or else has no text in front of it to be predicted from.
        side: where the padding goes; generation needs `left`.
        least: fewest columns, where padding is to be as long as in a larger batch.

    Raises:
        ValueError: there are no rows, or a prompt is empty.
    """
    if not rows or not all(prompt for prompt, _ in rows):
        raise ValueError("collate needs at least one row, and a prompt in every row")
    width = max(least, *(len(prompt) + len(target) for prompt, target in rows))
    input_ids = torch.full((len(rows), width), pad_id, dtype=torch.long)  # (B, T)
    attention_mask = torch.zeros_like(input_ids)
    labels = torch.full_like(input_ids, IGNORED)
    for row, (prompt, target) in enumerate(rows):
        ids = torch.tensor([*prompt, *target], dtype=torch.long)
        first = width - len(ids) if side == "left" else 0
        last = first + len(ids)
        unlabelled = len(prompt) if loss_on == "answer" else 1
        input_ids[row, first:last] = ids
        attention_mask[row, first:last] = 1
        labels[row, first + unlabelled : last] = ids[unlabelled:]
    return TextBatch(input_ids, attention_mask, labels)
