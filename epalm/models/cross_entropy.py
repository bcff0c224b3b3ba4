"""Cross-entropy over a large vocabulary, a few rows at a time.

Torch's own takes all logits to float32 and keeps and copies them several times over. Here a part that fits a
processor's cache is taken to float32, used and dropped, forwards and backwards; one number a row is kept. Where nobody
asks for the logits, they are never there as a whole: the output embedding is frozen, so the gradient at its input is
all that is left of them, and it is computed with them.

Shapes: N rows, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_PART = 2**17  # logits at a time on a CPU: half a megabyte of float32
_PART_OF_GPU = 2**26
_ROWS = 128  # rows at a time through the output embedding on a CPU: enough for its product to run at full rate
_ROWS_OF_GPU = 1024


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Sum over the rows, in float32 whatever the logits are.

    Args:
        logits: (N, V).
        targets: (N,), each below V.
        smoothing: label smoothing.
    """
    total: Tensor = _CrossEntropy.apply(logits, targets, smoothing, False)
    return total


def cross_entropy_after(
    head: Callable[[Tensor], Tensor], hidden: Tensor, targets: Tensor, smoothing: float = 0.0
) -> Tensor:
    """The same of `head(hidden)`, with the memory of a few rows of logits; `head` itself gets no gradients.

    Args:
        head: (n, D) -> (n, V), each row by itself.
        hidden: (N, D).
        targets: (N,), each below V.
        smoothing: label smoothing.
    """
    total: Tensor = _CrossEntropyAfter.apply(hidden, head, targets, smoothing)
    return total


class _CrossEntropyAfter(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, hidden: Tensor, head: Callable[[Tensor], Tensor], targets: Tensor, smoothing: float
    ) -> Tensor:
        learns = context.needs_input_grad[0]
        gradient = torch.empty_like(hidden) if learns else None
        total = hidden.new_zeros((), dtype=torch.float32)
        parts = -(-len(hidden) // (_ROWS if hidden.device.type == "cpu" else _ROWS_OF_GPU))
        at = 0
        for part in hidden.detach().chunk(max(1, parts)):
            rows = slice(at, at + len(part))
            at = rows.stop
            with torch.set_grad_enabled(learns):
                part.requires_grad_(learns)
                logits = head(part)
                target = targets[rows].to(logits.device, non_blocking=True)
                loss: Tensor = _CrossEntropy.apply(logits, target, smoothing, True)
            if gradient is not None:
                (gradient[rows],) = torch.autograd.grad(loss, part)
            total += loss.detach().to(total.device)
        context.save_for_backward(*[] if gradient is None else [gradient])
        return total

    @staticmethod
    @once_differentiable
    def backward(context: Any, outer: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = context.saved_tensors
        return gradient * outer.to(gradient.dtype), None, None, None


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, logits: Tensor, targets: Tensor, smoothing: float, overwrite: bool) -> Tensor:
        normalizers = logits.new_empty(len(logits), dtype=torch.float32)
        total = logits.new_zeros((), dtype=torch.float32)
        for rows in _parts(logits):
            part = logits[rows].float()
            normalizers[rows] = part.logsumexp(1)
            total += (1 - smoothing) * (normalizers[rows] - part.gather(1, targets[rows, None])[:, 0]).sum()
            if smoothing:
                total += smoothing * (normalizers[rows] - part.mean(1)).sum()
        context.save_for_backward(logits, targets, normalizers)
        context.smoothing, context.overwrite = smoothing, overwrite
        return total

    @staticmethod
    @once_differentiable
    def backward(context: Any, outer: Tensor) -> tuple[Tensor, None, None, None]:
        logits, targets, normalizers = context.saved_tensors
        gradient = logits if context.overwrite else torch.empty_like(logits)
        for rows in _parts(logits):
            part = (logits[rows].float() - normalizers[rows, None]).exp_()  # probabilities
            if context.smoothing:
                part -= context.smoothing / logits.shape[1]
            hit = part.gather(1, targets[rows, None]) - (1 - context.smoothing)
            gradient[rows] = part.scatter_(1, targets[rows, None], hit).mul_(outer)
        return gradient, None, None, None


def _parts(logits: Tensor) -> Iterator[slice]:
    """Rows, a few at a time."""
    few = max(1, (_PART if logits.device.type == "cpu" else _PART_OF_GPU) // logits.shape[1])
    return (slice(at, at + few) for at in range(0, len(logits), few))
