"""Features of every token of an encoder: as many of each input as are real, padded where inputs share a batch.

Shapes: B inputs, K levels, N tokens, E encoder width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True, eq=False)
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
        mask = mask.to(values.device, torch.bool)
        return cls(values.masked_fill(~mask[:, None, :, None], 0), mask)

    @classmethod
    def padded(cls, items: Sequence[Tensor]) -> TokenFeatures:
        """The tokens of single inputs, (K, N_i, E) each, in one batch."""
        longest = max(item.shape[1] for item in items)
        first = items[0]
        values = first.new_empty(len(items), first.shape[0], longest, first.shape[2])
        mask = torch.zeros(len(items), longest, dtype=torch.bool, device=first.device)
        for row, item in enumerate(items):
            values[row, :, : item.shape[1]] = item
            values[row, :, item.shape[1] :] = 0
            mask[row, : item.shape[1]] = True
        return cls(values, mask)

    @classmethod
    def joined(cls, parts: Sequence[TokenFeatures]) -> TokenFeatures:
        """The inputs of several batches in one."""
        if len(parts) == 1:
            return parts[0]
        longest = max(part.mask.shape[1] for part in parts)
        more = [longest - part.mask.shape[1] for part in parts]
        values = [pad(part.values, (0, 0, 0, count)) for part, count in zip(parts, more, strict=True)]
        masks = [pad(part.mask, (0, count)) for part, count in zip(parts, more, strict=True)]
        return cls(torch.cat(values), torch.cat(masks))

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
        """The real tokens of each input, (K, N_i, E); where there is padding, in memory of their own, without it."""
        if self.mask.all():
            return list(self.values)
        counts = self.mask.sum(dim=1).tolist()
        return [values[:, :count].clone() for values, count in zip(self.values, counts, strict=True)]

    def chained(self, counts: Sequence[int]) -> TokenFeatures:
        """Inputs that are made of several, such as frames: of so many each, whose tokens come one after the other's.

        Args:
            counts: of each new input; their sum is B.
        """
        if all(count == 1 for count in counts):
            return self
        items = iter(self.single())
        return TokenFeatures.padded([torch.cat(list(islice(items, count)), dim=1) for count in counts])

    def cpu(self) -> TokenFeatures:
        """In main memory."""
        return TokenFeatures(self.values.cpu(), self.mask.cpu())

    def to(self, like: Tensor) -> TokenFeatures:
        """On the device and in the dtype of a tensor."""
        return TokenFeatures(self.values.to(like, non_blocking=True), self.mask.to(like.device, non_blocking=True))


BatchFeatures = Tensor | TokenFeatures
"""What is perceived of B inputs: (B, K, E), or every token."""


def split_batch(features: BatchFeatures) -> list[Tensor]:
    """Features of single inputs, (K, E) each, or (K, N_i, E) of every token."""
    return features.single() if isinstance(features, TokenFeatures) else list(features)


def make_batch(items: Sequence[Tensor]) -> BatchFeatures:
    """The features of single inputs, in one batch."""
    return torch.stack(list(items)) if items[0].ndim == 2 else TokenFeatures.padded(items)


def join_batches(parts: Sequence[BatchFeatures]) -> BatchFeatures:
    """The inputs of several batches in one; all are of every token, or none is."""
    tokens = [part for part in parts if isinstance(part, TokenFeatures)]
    return TokenFeatures.joined(tokens) if tokens else torch.cat([part for part in parts if isinstance(part, Tensor)])


def deepest_levels(features: BatchFeatures, levels: int) -> BatchFeatures:
    """Of the last so many levels."""
    return features.deepest(levels) if isinstance(features, TokenFeatures) else features[:, -levels:]
