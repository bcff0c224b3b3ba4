"""Which hidden states predict a label, and the loss over them (eP-ALM section 3.4).

Only those rows go through the output embedding: with a vocabulary of 50,000 and an answer of three tokens, that is
most of the memory and much of the time saved.

Shapes: B batch, T text tokens, S slots, P soft-prompt tokens, N labelled tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from epalm.errors import DataError
from epalm.models.cross_entropy import cross_entropy

LossScale = Literal["mean", "original"]
_IGNORED = -100
_ORIGINAL_FACTOR = 0.1


@dataclass(frozen=True)
class LabelledRows:
    """The hidden states that predict a label, row by row of the batch and from left to right."""

    batch: Tensor
    """(N,) which row of the batch."""
    column: Tensor
    """(N,) which position of `[slots | prompt | text]`."""
    target: Tensor
    """(N,) token to predict."""

    @classmethod
    def find(cls, labels: Tensor, mask: Tensor, front: int) -> LabelledRows:
        """Shift inside: a token is predicted by the text before it.

        The first real token of a row is never a target, as in the plain language model and the original code: what
        must be learned needs a token in front of it (BOS, a question). Labels on padding are ignored.

        Args:
            labels: (B, T), -100 where there is none.
            mask: (B, T), 1 for real tokens.
            front: S + P, the positions in front of the text.

        Raises:
            DataError: no label is left.
        """
        later = mask.long().cumsum(1) > 1  # (B, T)
        labelled = mask.bool() & later & (labels != _IGNORED)
        batch, token = labelled.nonzero(as_tuple=True)  # (N,), (N,)
        if not len(batch):
            raise DataError("labels: none in this batch counts (the first token of a row never does)")
        return cls(batch, front + token - 1, labels[batch, token])

    @contextmanager
    def only(self, head: nn.Module) -> Iterator[None]:
        """Inside this context the output embedding `head` computes these rows alone: (B, ..., D) -> (1, N, V)."""

        def pick(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            hidden = args[0]
            # Without waiting for a GPU, which is busy with the layers before.
            batch, column = (index.to(hidden.device, non_blocking=True) for index in (self.batch, self.column))
            rows = hidden[batch, column]  # (N, D)
            return (rows.unsqueeze(0), *args[1:])

        hook = head.register_forward_pre_hook(pick)
        try:
            yield
        finally:
            hook.remove()


def label_loss(
    logits: Tensor, targets: Tensor, batch_size: int, scale: LossScale = "mean", smoothing: float = 0.0
) -> Tensor:
    """Token cross-entropy, in float32.

    Args:
        logits: (N, V).
        targets: (N,).
        batch_size: B.
        scale: `mean` over all labels, or `original`: 0.1 times the sum over B, as the published models were trained.
        smoothing: label smoothing.
    """
    total = cross_entropy(logits, targets, smoothing)
    if scale == "original":
        return _ORIGINAL_FACTOR * total / batch_size
    return total / targets.shape[0]
