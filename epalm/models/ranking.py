"""The likeliest of a closed set of answers, exactly: first-token scores, then summed log-likelihoods of the best.

An answer's log-likelihood is the sum of its tokens', end token included, and every term is at most 0. So answers are
taken in the order of their first token's log-likelihood, which one prefill a question gives for all of them, and the
search ends as soon as the best sum found is above the next first token: nothing that is left can beat it. A limit of
the top k ends it earlier.

Every further token comes from the prefill's KV cache, expanded row by row to the answers that are tried. With the
legacy mask, whose slot keys change with every token, everything is computed anew for each, as in generation.

Shapes: B questions, A answers, R tokens of the longest answer, M pairs of question and answer, N tokens in front, V
vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache, PreTrainedModel

from epalm.models.anatomy import Anatomy
from epalm.models.layout import Layout


@dataclass(frozen=True)
class Ranked:
    """The best answer of every question."""

    best: list[int]
    """Its number among the answers; of several alike the first."""
    log_likelihood: list[float]
    """Its tokens' log-likelihoods, summed."""


PairScores = Callable[[Sequence[int], Sequence[int]], list[float]]
"""(questions, answers), pair by pair -> log-likelihood of the tokens after the first."""


def search(first: Tensor, answers: Sequence[Sequence[int]], rest: PairScores, top_k: int | None, pairs: int) -> Ranked:
    """Search the best answer of every question.

    Args:
        first: (B, V), log-likelihoods of the first token.
        answers: tokens of each, none empty.
        rest: scores the tokens after the first.
        top_k: try no more answers than the k with the likeliest first tokens, and those that begin as the last of them
            does; None: as many as it takes to be sure.
        pairs: pairs of question and answer to score at once.
    """
    begins = torch.tensor([answer[0] for answer in answers], device=first.device)
    heads = first[:, begins].float().cpu()  # (B, A)
    order = heads.argsort(dim=1, descending=True, stable=True)
    bounds = heads.gather(1, order).tolist()  # (B, A), falling
    orders = order.tolist()
    if top_k is not None and top_k < len(answers):
        ends = [sum(bound >= row[top_k - 1] for bound in row) for row in bounds]
    else:
        ends = [len(answers)] * len(bounds)
    best = [(float("-inf"), 0)] * len(bounds)  # the sum, then minus the number: of equals the first wins
    tried = [0] * len(bounds)

    def is_open(question: int) -> bool:
        return tried[question] < ends[question] and bounds[question][tried[question]] >= best[question][0]

    while waiting := [question for question in range(len(bounds)) if is_open(question)]:
        share = max(1, pairs // len(waiting))
        chosen = [(q, i) for q in waiting for i in range(tried[q], min(tried[q] + share, ends[q]))]
        for start in range(0, len(chosen), pairs):
            batch = chosen[start : start + pairs]
            rests = rest([q for q, _ in batch], [orders[q][i] for q, i in batch])
            for (q, i), rest_score in zip(batch, rests, strict=True):
                best[q] = max(best[q], (bounds[q][i] + rest_score, -orders[q][i]))
        for question in waiting:
            tried[question] = min(tried[question] + share, ends[question])
    return Ranked([-number for _, number in best], [total for total, _ in best])


class AnswersAfter:
    """Scores answers after each row of a layout.

    Args:
        language_model: the frozen causal language model.
        anatomy: its parts.
        layout: (B, N), everything in front of the answers, left-padded.
        answers: tokens of each, the end token included.
        running: rows of the layout, (M,) -> the context in which the language model perceives what they do.
        cached: whether the KV cache of the layout may serve the answers.
    """

    def __init__(
        self,
        language_model: PreTrainedModel,
        anatomy: Anatomy,
        layout: Layout,
        answers: Sequence[Sequence[int]],
        running: Callable[[Tensor], AbstractContextManager[None]],
        *,
        cached: bool,
    ) -> None:
        self._language_model, self._anatomy, self._layout = language_model, anatomy, layout
        self._answers, self._running = answers, running
        self._cache = DynamicCache() if cached else None

    def first(self) -> Tensor:
        """Log-likelihoods of the first token, (B, V); fills the cache."""
        rows = torch.arange(len(self._layout.mask), device=self._layout.mask.device)
        options = {"use_cache": self._cache is not None, "past_key_values": self._cache}
        logits = self._logits(rows, self._layout.embeddings, self._layout.mask, self._layout.positions, 1, options)
        return logits[:, -1].log_softmax(dim=-1)

    def rest(self, rows: Sequence[int], numbers: Sequence[int]) -> list[float]:
        """Log-likelihood of the tokens after the first, of M answers after a row of the layout each."""
        ids, real = _padded([self._answers[number] for number in numbers], self._layout.mask.device)  # (M, R)
        chosen = torch.tensor(rows, device=ids.device)
        if ids.shape[1] == 1:
            return [0.0] * len(ids)
        if self._cache is not None:
            return self._token_scores(chosen, ids, real, self._cache).sum(1).tolist()
        # Token by token, for each is said to a slot that sees those before it and nothing else.
        total = torch.zeros(len(ids), device=ids.device)
        for length in range(1, ids.shape[1]):
            longer = real[:, length].nonzero()[:, 0]
            until = ids[longer, : length + 1]
            total[longer] += self._token_scores(chosen[longer], until, torch.ones_like(until), None)[:, -1].to(
                total.device
            )
        return total.tolist()

    def _token_scores(self, rows: Tensor, ids: Tensor, real: Tensor, cache: DynamicCache | None) -> Tensor:
        """Log-likelihood of every token but the first, (M, R - 1), 0 for padding; in one call.

        Args:
            rows: (M,), the row of the layout that each answer follows.
            ids: (M, R), the answers, padded on the right.
            real: (M, R), 1 for tokens.
            cache: of the layout; stays as it is. None: the layout is computed anew.
        """
        layout = self._layout.of_rows(rows)
        context, context_mask = ids[:, :-1], real[:, :-1]  # nothing is to be said after the last token
        text = self._language_model.get_input_embeddings()(context).to(layout.embeddings)  # (M, R - 1, W)
        positions = layout.positions[:, -1:] + context_mask.cumsum(1)  # padding stays where the last token is
        mask = torch.cat([layout.mask, context_mask], dim=1)  # (M, N + R - 1)
        options: dict[str, Any] = {"use_cache": cache is not None}
        if cache is None:
            text = torch.cat([layout.embeddings, text], dim=1)
            positions = torch.cat([layout.positions, positions], dim=1)
        else:
            options["past_key_values"] = _of_rows(cache, rows)
        logits = self._logits(rows, text, mask, positions, context.shape[1], options)  # (M, R - 1, V)
        targets = ids[:, 1:].to(logits.device)
        log_likelihood = -functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")  # (M, R - 1)
        return log_likelihood * real[:, 1:].to(logits.device)

    def _logits(
        self, rows: Tensor, text: Tensor, mask: Tensor, positions: Tensor, last: int, options: dict[str, Any]
    ) -> Tensor:
        """Logits of the last columns of a call, float32."""
        if self._anatomy.takes_position_ids:
            options = {**options, "position_ids": positions}
        head = self._language_model.get_output_embeddings()
        hook = head.register_forward_pre_hook(lambda module, args: (args[0][:, -last:].contiguous(), *args[1:]))
        try:
            with self._running(rows):
                logits = self._language_model(inputs_embeds=text, attention_mask=mask, **options).logits
        finally:
            hook.remove()
        return logits.float()


def _of_rows(cache: DynamicCache, rows: Tensor) -> DynamicCache:
    """A cache of its own with these rows of `cache`."""
    chosen = copy.copy(cache)
    chosen.layers = [copy.copy(layer) for layer in cache.layers]
    chosen.batch_select_indices(rows)
    return chosen


def _padded(answers: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens and mask, (M, R) each; padding repeats a row's last token."""
    longest = max(map(len, answers))
    ids = [[*answer, *answer[-1:] * (longest - len(answer))] for answer in map(list, answers)]
    real = [[1] * len(answer) + [0] * (longest - len(answer)) for answer in answers]
    return torch.tensor(ids, device=device), torch.tensor(real, device=device)
