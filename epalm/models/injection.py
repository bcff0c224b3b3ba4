"""Perception entering the layers of an unmodified decoder, by hooks: slots in front, filled and opened layer by layer
(eP-ALM section 3.2), and changes of the states that enter a layer.

The slots are the first S positions from layer 0 on, with 0 in the 2-D attention mask: nothing sees them and no position
counts them. Entering every layer of the window, their hidden states are replaced by that layer's perception, and from
the first layer of the window to the last of the model, or of the window, every other row is allowed to see them,
however far away: sliding windows hide text, never perception. So every layer's cache has the same length, and decoding
costs what it costs without, plus S keys.

A slot's own row sees only itself, in every layer (`causal`), so perception never depends on text and the future cannot
pass through it. With the `legacy` mask it sees everything from the window on, padding and future included, as in the
original code; its keys then change with every new token and must not be cached.

Shapes: B batch, S slots, D language-model width, N = S + P + T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from epalm.errors import UnsupportedModelError
from epalm.models.anatomy import Anatomy

Change = Callable[[Tensor, bool], Tensor]
"""States (B, N, D) that enter a layer, and whether the call holds the slots and what else is in front, to new ones."""


@contextmanager
def injected(
    language_model: nn.Module,
    anatomy: Anatomy,
    start: int,
    states: Sequence[Tensor],
    *,
    silent: Tensor | None = None,
    legacy: bool = False,
    end: int | None = None,
    changes: Mapping[int, Change] | None = None,
) -> Iterator[None]:
    """Inside this context the language model's calls have perception in their first S positions; outside it is itself.

    Args:
        language_model: the frozen causal language model; its inputs must come from `lay_out`.
        anatomy: its parts.
        start: the first layer of the window.
        states: for every layer of the window, what its slots hold: (B, S, D) each; none for a run without perception.
            A call with a multiple of B rows (beams, several answers a question) gets every item's states that often.
        silent: (B, N), true where no learned position must be added.
        legacy: let the slots' rows see everything.
        end: the first layer whose other rows see the slots no more; unset: they see them to the last.
        changes: by layer, what is done to the states that enter it.
    """
    run = _Run(anatomy, start, states, silent, legacy, len(anatomy.layers) if end is None else end, changes or {})
    with ExitStack() as hooks:
        add = hooks.callback
        add(language_model.register_forward_pre_hook(run.begin, with_kwargs=True).remove)
        for index, layer in enumerate(anatomy.layers):
            if changes and index in changes:
                add(layer.register_forward_pre_hook(partial(run.change, index), with_kwargs=True).remove)
            if states:
                add(layer.register_forward_pre_hook(partial(run.enter, index), with_kwargs=True).remove)
        if silent is not None and anatomy.position_table is not None:
            add(anatomy.position_table.register_forward_hook(run.silence).remove)
        yield


class _Run:
    """One pass or one generation: what its hooks share."""

    def __init__(
        self,
        anatomy: Anatomy,
        start: int,
        states: Sequence[Tensor],
        silent: Tensor | None,
        legacy: bool,
        end: int,
        changes: Mapping[int, Change],
    ) -> None:
        self.anatomy, self.start, self.states, self.silent, self.legacy = anatomy, start, states, silent, legacy
        self.end, self.changes = end, changes
        self.slots = states[0].shape[1] if states else 0
        self.holds_slots = True
        self.masks: dict[tuple[int, bool], tuple[Tensor, Tensor]] = {}

    def begin(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A call begins: it holds the slots unless the cache already does."""
        cache = kwargs.get("past_key_values")
        self.holds_slots = cache is None or int(cache.get_seq_length()) == 0
        self.masks.clear()

    def enter(
        self, index: int, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """A decoder layer is entered: fill the slots, and show them from the window on."""
        above, place = self.start <= index < self.end, index - self.start
        if not self.holds_slots and not above:
            return None  # the slots stay hidden, and this call does not hold them
        if self.holds_slots and 0 <= place < len(self.states):
            hidden = _hidden(args, kwargs)
            state = repeated(self.states[place], hidden).to(hidden)  # (B, S, D)
            args, kwargs = _with_hidden(args, kwargs, torch.cat([state, hidden[:, self.slots :]], dim=1))  # (B, N, D)
        at = self.anatomy.mask_index
        if "attention_mask" in kwargs:
            return args, {**kwargs, "attention_mask": self._opened(kwargs["attention_mask"], above)}
        if len(args) > at:
            return (*args[:at], self._opened(args[at], above), *args[at + 1 :]), kwargs
        raise UnsupportedModelError(self._no_mask())

    def change(
        self, index: int, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A decoder layer is entered whose states are to be changed."""
        return _with_hidden(args, kwargs, self.changes[index](_hidden(args, kwargs), self.holds_slots))

    def silence(self, table: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """No learned position where `silent` says so."""
        if not self.holds_slots or self.silent is None:
            return output
        silent = repeated(self.silent, output).to(output.device)  # (B, N)
        silent = functional.pad(silent, (0, output.shape[1] - silent.shape[1]))
        return output.masked_fill(silent.unsqueeze(-1), 0)

    def _opened(self, mask: Any, above: bool) -> Tensor:
        """The layer's mask with the slots opened; one copy serves all layers that share a mask."""
        if not isinstance(mask, Tensor) or mask.ndim != 4:
            raise UnsupportedModelError(self._no_mask())
        key = (id(mask), above)
        if key not in self.masks:
            self.masks[key] = (mask, self._open(mask, above))
        return self.masks[key][1]

    def _open(self, mask: Tensor, above: bool) -> Tensor:
        """Input and output shape: (B, 1 or heads, queries, keys), boolean or added to the scores."""
        is_bool, slots = mask.dtype == torch.bool, self.slots
        opened, closed = (True, False) if is_bool else (0.0, torch.finfo(mask.dtype).min)
        mask = mask.clone(memory_format=torch.contiguous_format)
        if above:
            mask[..., :slots] = opened
        if not self.holds_slots:
            return mask
        if above and self.legacy:
            mask[:, :, :slots] = opened
            return mask
        mask[:, :, :slots] = closed
        own = mask.diagonal(dim1=-2, dim2=-1)  # (B, 1 or heads, N)
        if self.legacy:
            own = own[..., :slots]  # there the slots see the padding, which must stay what it was
        # Every slot sees itself, and so does padding: a row that sees nothing becomes NaN, or the mean of all, future
        # included.
        own.masked_fill_(own == closed, opened)
        return mask

    def _no_mask(self) -> str:
        return f"language model {self.anatomy.family}: its decoder layers were called without a 4-D attention mask"


def repeated(tensor: Tensor, like: Tensor) -> Tensor:
    """Every row of `tensor` as often as `like` has rows for it: beams and answers of one item share its perception."""
    times = like.shape[0] // tensor.shape[0]
    return tensor if times == 1 else tensor.repeat_interleave(times, dim=0)


def _hidden(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    hidden: Tensor = args[0] if args else kwargs["hidden_states"]
    return hidden


def _with_hidden(
    args: tuple[Any, ...], kwargs: dict[str, Any], hidden: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return ((hidden, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": hidden})
