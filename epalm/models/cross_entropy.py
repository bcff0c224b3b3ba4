"""Cross-entropy over a large vocabulary, a few rows at a time.

Torch's own takes all logits to float32 and keeps and copies them several times over. Here a part that fits a
processor's cache is taken to float32, used and dropped, forwards and backwards; one number a row is kept.

Shapes: N rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_PART = 2**17  # logits at a time on a CPU: half a megabyte of float32
_PART_OF_GPU = 2**26


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Sum over the rows, in float32 whatever the logits are.

    Args:
        logits: (N, V).
        targets: (N,), each below V.
        smoothing: label smoothing.
    """
    total: Tensor = _CrossEntropy.apply(logits, targets, smoothing)
    return total


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        normalizers = logits.new_empty(len(logits), dtype=torch.float32)
        total = logits.new_zeros((), dtype=torch.float32)
        for rows in _parts(logits):
            part = logits[rows].float()
            normalizers[rows] = part.logsumexp(1)
            total += (1 - smoothing) * (normalizers[rows] - part.gather(1, targets[rows, None])[:, 0]).sum()
            if smoothing:
                total += smoothing * (normalizers[rows] - part.mean(1)).sum()
        context.save_for_backward(logits, targets, normalizers)
        context.smoothing = smoothing
        return total

    @staticmethod
    @once_differentiable
    def backward(context: Any, outer: Tensor) -> tuple[Tensor, None, None]:
        logits, targets, normalizers = context.saved_tensors
        gradient = torch.empty_like(logits)
        for rows in _parts(logits):
            part = (logits[rows].float() - normalizers[rows, None]).exp_()  # probabilities
            if context.smoothing:
                part -= context.smoothing / logits.shape[1]
            hit = part.gather(1, targets[rows, None]) - (1 - context.smoothing)
            gradient[rows] = part.scatter_(1, targets[rows, None], hit).mul_(outer)
        return gradient, None, None


def _parts(logits: Tensor) -> Iterator[slice]:
    """Rows, a few at a time."""
    few = max(1, (_PART if logits.device.type == "cpu" else _PART_OF_GPU) // logits.shape[1])
    return (slice(at, at + few) for at in range(0, len(logits), few))
