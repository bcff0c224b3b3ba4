"""Features of every token of an encoder: as many of each input as are real, padded where inputs share a batch.

Shapes: B inputs, K levels, N tokens, E encoder width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenFeatures:
    """Every token of B inputs."""

    values: Tensor
    """(B, K, N, E); padding stands behind the real tokens and is 0."""
    mask: Tensor
    """(B, N) of bool, true for real tokens; every input has at least one."""

    @classmethod
    def of(cls, values: Tensor, mask: Tensor | None = None) -> TokenFeatures:
        """Tokens (B, K, N, E) with a mask (B, N) of any kind; without one all are real."""
        if mask is None:
            return cls(values, values.new_ones(values.shape[0], values.shape[2], dtype=torch.bool))
        mask = mask.bool()
        return cls(values.masked_fill(~mask[:, None, :, None], 0), mask)

    @classmethod
    def padded(cls, items: Sequence[Tensor]) -> TokenFeatures:
        """The tokens of single inputs, (K, N_i, E) each, in one batch."""
        longest = max(item.shape[1] for item in items)
        first = items[0]
        values = first.new_zeros(len(items), first.shape[0], longest, first.shape[2])
        mask = torch.zeros(len(items), longest, dtype=torch.bool, device=first.device)
        for row, item in enumerate(items):
            values[row, :, : item.shape[1]] = item
            mask[row, : item.shape[1]] = True
        return cls(values, mask)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Any) -> TokenFeatures:
        """Some of the inputs."""
        return TokenFeatures(self.values[rows], self.mask[rows])

    @property
    def levels(self) -> int:
        """K."""
        return self.values.shape[1]

    @property
    def width(self) -> int:
        """E."""
        return self.values.shape[3]

    def deepest(self, levels: int) -> TokenFeatures:
        """The last so many levels."""
        return TokenFeatures(self.values[:, -levels:], self.mask)

    def single(self) -> list[Tensor]:
        """The real tokens of each input, (K, N_i, E); padding stands behind them."""
        return [values[:, : int(mask.sum())] for values, mask in zip(self.values, self.mask, strict=True)]

    def to(self, like: Tensor) -> TokenFeatures:
        """On the device and in the dtype of a tensor."""
        return TokenFeatures(self.values.to(like, non_blocking=True), self.mask.to(like.device, non_blocking=True))
