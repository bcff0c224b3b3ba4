"""Which hidden states predict a label, and the loss over them (eP-ALM section 3.4).

Only those rows go through the output embedding: with a vocabulary of 50,000 and an answer of three tokens, that is
most of the memory and much of the time saved. Where nobody asks for their logits either, they go through it a few at a
time (`epalm.models.cross_entropy`).

Shapes: B batch, T text tokens, S slots, P soft-prompt tokens, N labelled tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from epalm.errors import ConfigError, DataError
from epalm.models.call_arguments import IGNORED
from epalm.models.cross_entropy import cross_entropy, cross_entropy_after
from epalm.runtime.offloading import execution_device

LossScale = Literal["mean", "original"]
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
        labelled = mask.bool() & later & (labels != IGNORED)
        batch, token = labelled.nonzero(as_tuple=True)  # (N,), (N,)
        if not len(batch):
            raise DataError("labels: none in this batch counts (the first token of a row never does)")
        return cls(batch, front + token - 1, labels[batch, token])

    @contextmanager
    def only(self, head: nn.Module) -> Iterator[None]:
        """Inside this context the output embedding `head` computes these rows alone: (B, ..., D) -> (1, N, V)."""

        def pick(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return (self._of(args[0]).unsqueeze(0), *args[1:])

        hook = head.register_forward_pre_hook(pick)
        try:
            yield
        finally:
            hook.remove()

    @contextmanager
    def skipping_logits(self, head: nn.Module) -> Iterator[list[Tensor]]:
        """Inside this context the output embedding `head` computes nothing: its rows, (N, D), come into the list."""
        hidden: list[Tensor] = []

        def keep(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            hidden.append(self._of(args[0]))
            return (args[0][:, :0], *args[1:])

        hook = head.register_forward_pre_hook(keep)
        try:
            yield hidden
        finally:
            hook.remove()

    def _of(self, hidden: Tensor) -> Tensor:
        """These rows of hidden states (B, ..., D): (N, D)."""
        # Without waiting for a GPU, which is busy with the layers before.
        batch, column = (index.to(hidden.device, non_blocking=True) for index in (self.batch, self.column))
        return hidden[batch, column]


def require_loss(scale: Any, smoothing: Any) -> None:
    """See that there is such a loss.

    Raises:
        ConfigError: there is not.
    """
    if scale not in get_args(LossScale):
        raise ConfigError(f"loss_scale: expected one of {', '.join(get_args(LossScale))}, got {scale!r}")
    if not 0 <= smoothing < 1:
        raise ConfigError(f"label_smoothing: expected a number from 0 to below 1, got {smoothing!r}")


def predicting(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Token ids and mask, (B, T - 1), without the last real token of each row: it predicts nothing.

    Input shapes: (B, T) both, zeros of the mask anywhere.
    """
    mask = mask.long()
    followed = mask.flip(1).cumsum(1).flip(1) > 1
    return ids[:, :-1], (mask * followed)[:, :-1]


@torch.no_grad()
def ends_in_its_head(language_model: Any) -> bool:
    """Whether logits are what a plain output embedding makes of hidden states, and nothing is done to them after.

    Gemma 2 caps its logits, Cohere scales them. A pass over one token tells. In float16 it is denied: gradients of
    single logits are too small for it before the loss is scaled.
    """
    head = language_model.get_output_embeddings()
    if type(head) is not nn.Linear or type(head.weight.data) is not Tensor:  # quantised, or sharded
        return False
    if execution_device(head).type == "meta" or head.weight.dtype == torch.float16:
        return False
    made: list[Tensor] = []
    hook = head.register_forward_hook(lambda module, args, output: made.append(output))
    try:
        token = torch.zeros(1, 1, dtype=torch.long, device=execution_device(language_model.get_input_embeddings()))
        logits = language_model(input_ids=token, use_cache=False).logits
    finally:
        hook.remove()
    return len(made) == 1 and made[0].dtype == logits.dtype and torch.equal(made[0], logits)


def loss_of(
    run: Callable[[], Any],
    head: nn.Module,
    rows: LabelledRows,
    batch_size: int,
    scale: LossScale = "mean",
    smoothing: float = 0.0,
    *,
    skip_logits: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Token cross-entropy, in float32, and the logits (N, V) it is of.

    Args:
        run: one pass of the language model.
        head: its output embedding.
        rows: what predicts a label.
        batch_size: B.
        scale: `mean` over all labels, or `original`: 0.1 times the sum over B, as the published models were trained.
        smoothing: label smoothing.
        skip_logits: have only a few rows of them at a time, and none in the end; see `ends_in_its_head`.
    """
    logits = None
    if skip_logits:
        with rows.skipping_logits(head) as hidden:
            run()
        total = cross_entropy_after(head, hidden[0], rows.target, smoothing)
    else:
        with rows.only(head):
            logits = run().logits[0]
        total = cross_entropy(logits, rows.target.to(logits.device, non_blocking=True), smoothing)
    loss = _ORIGINAL_FACTOR * total / batch_size if scale == "original" else total / len(rows.target)
    return loss, logits
