"""The order of everything in front of a frozen decoder: `[slots | padding | soft prompt | text]`.

The soft prompt stands right before the first real token of its row, behind any left padding, so that the distance
between them, which sliding windows count, is the same in every batch. The slots come first of all.

Positions. With a learned position table (OPT, GPT-2) neither slots nor soft prompt have a position: the text counts
from 0 over its real tokens as if they were not there. With rotary and ALiBi positions the soft prompt counts as
ordinary tokens in front of the text, from 0 on, and the slots are at position 0 without being counted. Padding never
counts.

Shapes: B batch, T text tokens, P soft-prompt tokens, S slots, W word-embedding width, N = S + P + T.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from epalm.models.anatomy import Anatomy


@dataclass(frozen=True)
class Layout:
    """One batch as the frozen decoder gets it."""

    embeddings: Tensor
    """(B, N, W); zeros in the slots, which the injection fills."""
    mask: Tensor
    """(B, N), 1 for soft prompt and real tokens, 0 for slots and padding: the slots are opened layer by layer."""
    positions: Tensor
    """(B, N)."""
    silent: Tensor | None
    """(B, N), true where a learned position must not be added: at the soft prompt; None: nowhere."""

    def of_rows(self, rows: Tensor) -> Layout:
        """These rows, (M,), in this order; one may come several times."""
        silent = None if self.silent is None else self.silent[rows]
        return Layout(self.embeddings[rows], self.mask[rows], self.positions[rows], silent)


def lay_out(anatomy: Anatomy, text: Tensor, mask: Tensor, prompt: Tensor | None, slots: int) -> Layout:
    """Put slots and soft prompt in front of the text.

    Args:
        anatomy: the language model's.
        text: (B, T, W) word embeddings.
        mask: (B, T), 1 for real tokens; zeros may stand anywhere.
        prompt: (P, W) or None.
        slots: S.
    """
    batch, length = mask.shape
    mask = mask.long()
    tokens = 0 if prompt is None else prompt.shape[0]
    prompted = mask.new_zeros(batch, length)  # (B, T): which columns hold the soft prompt
    if prompt is not None:
        source = _behind_padding(mask, tokens)  # (B, P + T)
        rows = prompt.expand(batch, -1, -1).to(text.dtype)  # cast row by row: gradients are summed in float32
        stream = torch.cat([rows, text], dim=1)
        text = stream.gather(1, source.unsqueeze(-1).expand_as(stream))  # (B, P + T, W)
        mask = functional.pad(mask, (tokens, 0), value=1).gather(1, source)  # (B, P + T)
        prompted = (source < tokens).long()  # (B, P + T)
    counted = mask if anatomy.position_table is None else mask - prompted
    positions = (counted.cumsum(1) - 1).clamp(min=0)
    if anatomy.position_table is not None and anatomy.position_table.num_embeddings > (anatomy.position_limit or 0):
        # A table with rows to spare (OPT) keeps one for padding, just before position 0. It matters where the slot
        # sees the padding.
        positions = positions.masked_fill(mask == 0, -1)
    front = (slots, 0)
    return Layout(
        embeddings=functional.pad(text, (0, 0, *front)),  # (B, N, W)
        mask=functional.pad(mask, front),
        positions=functional.pad(positions, front),
        silent=functional.pad(prompted, front).bool() if anatomy.position_table is not None and tokens else None,
    )


def to_left_padding(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The same tokens in the same order with all padding on the left: (B, T) ids and mask."""
    order = mask.long().argsort(dim=1, stable=True)
    return ids.gather(1, order), mask.gather(1, order)


def _behind_padding(mask: Tensor, tokens: int) -> Tensor:
    """For every column the one of `[prompt ; text]` it takes, so that the prompt moves behind the left padding.

    Input shape: mask (B, T). Output shape: (B, P + T).
    """
    lead = (mask.cumsum(1) == 0).sum(1, keepdim=True)  # (B, 1)
    column = torch.arange(tokens + mask.shape[1], device=mask.device).expand(mask.shape[0], -1)
    source = torch.where(column < lead + tokens, column - lead, column)
    return torch.where(column < lead, column + tokens, source)
