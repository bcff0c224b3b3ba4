"""The order of everything in front of a frozen decoder: `[slots | padding | perceived tokens | soft prompt | text]`.

Perceived tokens (of mechanisms that enter at the input) and the soft prompt stand right before the first real token of
their row, behind any left padding, so that the distance between them, which sliding windows count, is the same in every
batch. The slots come first of all.

Positions. Perceived tokens are ordinary ones, as in any language model that is given them with its word embeddings:
they count from 0, and what follows counts on. With a learned position table (OPT, GPT-2) neither slots nor soft prompt
have a position: the text counts over its real tokens as if they were not there. With rotary and ALiBi positions the
soft prompt counts as ordinary tokens in front of the text, and the slots are at position 0 without being counted.
Padding never counts.

Shapes: B batch, T text tokens, P soft-prompt tokens, M perceived tokens, S slots, W word-embedding width,
N = S + M + P + T.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from epalm.models.anatomy import Anatomy


@dataclass(frozen=True)
class FrontTokens:
    """Perceived tokens that stand in front of the text."""

    embeddings: Tensor
    """(B, M, W)."""
    mask: Tensor
    """(B, M) of bool, true for real ones; padding may stand anywhere."""


@dataclass(frozen=True)
class Layout:
    """One batch as the frozen decoder gets it."""

    embeddings: Tensor
    """(B, N, W); zeros in the slots, which the injection fills."""
    mask: Tensor
    """(B, N), 1 for perceived and real tokens and the soft prompt, 0 for slots and padding: the slots are opened layer
    by layer."""
    positions: Tensor
    """(B, N)."""
    silent: Tensor | None
    """(B, N), true where a learned position must not be added: at the soft prompt; None: nowhere."""

    def of_rows(self, rows: Tensor) -> Layout:
        """These rows, (M,), in this order; one may come several times."""
        silent = None if self.silent is None else self.silent[rows]
        return Layout(self.embeddings[rows], self.mask[rows], self.positions[rows], silent)


def lay_out(
    anatomy: Anatomy,
    text: Tensor,
    mask: Tensor,
    prompt: Tensor | None,
    slots: int,
    perceived: FrontTokens | None = None,
) -> Layout:
    """Put slots, perceived tokens and soft prompt in front of the text.

    Args:
        anatomy: the language model's.
        text: (B, T, W) word embeddings.
        mask: (B, T), 1 for real tokens; zeros may stand anywhere.
        prompt: (P, W) or None.
        slots: S.
        perceived: tokens of the B rows.
    """
    mask = mask.long()
    prompted = torch.zeros_like(mask)  # (B, T): which columns hold the soft prompt
    if prompt is not None or perceived is not None:
        text, mask, prompted = _in_front(text, mask, prompt, perceived)
    counted = mask if anatomy.position_table is None else mask - prompted
    positions = (counted.cumsum(1) - 1).clamp(min=0)
    if anatomy.position_table is not None and anatomy.position_table.num_embeddings > (anatomy.position_limit or 0):
        # A table with rows to spare (OPT) keeps one for padding, just before position 0. It matters where the slot
        # sees the padding.
        positions = positions.masked_fill(mask == 0, -1)
    front = (slots, 0)
    without_position = anatomy.position_table is not None and prompt is not None
    return Layout(
        embeddings=functional.pad(text, (0, 0, *front)),  # (B, N, W)
        mask=functional.pad(mask, front),
        positions=functional.pad(positions, front),
        silent=functional.pad(prompted, front).bool() if without_position else None,
    )


def to_left_padding(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The same tokens in the same order with all padding on the left: (B, T) ids and mask."""
    order = mask.long().argsort(dim=1, stable=True)
    return ids.gather(1, order), mask.gather(1, order)


def _in_front(
    text: Tensor, mask: Tensor, prompt: Tensor | None, perceived: FrontTokens | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The text (B, M + P + T, W) behind perceived tokens and soft prompt, which stand behind all padding before it.

    Input shapes: text (B, T, W), mask (B, T), prompt (P, W). The other results, (B, M + P + T): the mask, and 1 at the
    soft prompt.
    """
    batch = mask.shape[0]
    # What each part holds, its mask, whether it is the soft prompt, and which of its columns are padding to go ahead.
    parts = [(text, mask, 0, mask.cumsum(1) == 0)]
    if prompt is not None:
        rows = prompt.expand(batch, -1, -1).to(text.dtype)  # cast row by row: gradients are summed in float32
        ones = mask.new_ones(batch, len(prompt))
        parts.insert(0, (rows, ones, 1, torch.zeros_like(ones, dtype=torch.bool)))
    if perceived is not None:
        there = perceived.mask.to(mask.device)
        parts.insert(0, (perceived.embeddings.to(text), there.long(), 0, ~there))
    ahead = torch.cat([padding for *_, padding in parts], dim=1)  # (B, M + P + T)
    source = (~ahead).long().argsort(dim=1, stable=True)
    stream = torch.cat([embeddings for embeddings, *_ in parts], dim=1)
    stream = stream.gather(1, source.unsqueeze(-1).expand_as(stream))
    real = torch.cat([each for _, each, *_ in parts], dim=1).gather(1, source)
    prompted = torch.cat([torch.full_like(each, is_prompt) for _, each, is_prompt, _ in parts], dim=1)
    return stream, real, prompted.gather(1, source)
