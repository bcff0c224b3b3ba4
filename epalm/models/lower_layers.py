"""The layers below the window, run once for every text and not at every visit.

Below the window no layer sees a slot, so without a soft prompt and without block adapters hidden states there depend on
the text alone, and no gradient goes there. What enters the first layer of the window is kept in main memory, row by row
and without padding; on a later visit the layers below hand on their input, and the window gets what was kept.

On the CPU every text that is kept is run alone, so that its states do not depend, by a rounding, on what it was first
met with, and a resumed run ends as one that was never stopped. Elsewhere that would take too long, and new texts run
together. So do everywhere the texts of a batch that there is no room for: they cost what they would cost without all
this. Texts are kept as they come, until one does not fit; none is ever dropped for another.

Shapes: B batch, T text tokens, t tokens of one row, D language-model width, S slots, N = S + T.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from epalm.models.anatomy import Anatomy
from epalm.models.layer_forwards import Forward, replaced
from epalm.models.layout import lay_out
from epalm.runtime.locks import one_thread_at_a_time
from epalm.runtime.offloading import execution_device

MOST_BYTES = 4 * 2**30
"""Of main memory that may be kept, where nothing else is said."""
Row = tuple[int, ...]
"""The tokens of one text, from the first real one to the last; -1 for padding between them."""
_PADDING = -1


class LowerLayers:
    """What the first layers of a frozen language model make of texts; made by `PerceptualLM.lower_layers`.

    Args:
        language_model: the frozen causal language model.
        anatomy: its parts.
        start: how many layers, at least one.
        most_bytes: what may be kept; when it is, the states of other texts are computed anew at every visit. Unset:
            `MOST_BYTES`.
    """

    def __init__(
        self, language_model: PreTrainedModel, anatomy: Anatomy, start: int, most_bytes: int | None = None
    ) -> None:
        self.language_model, self.anatomy, self.start = language_model, anatomy, start
        self.most_bytes = MOST_BYTES if most_bytes is None else most_bytes
        self._words = language_model.get_input_embeddings()
        self._device = execution_device(self._words)
        self.bytes = 0
        """How much is kept, or claimed."""
        self.full = False
        """Whether a text did not fit, so that no other is kept."""
        self._claimed: set[Row] = set()
        """Texts that there is room for."""
        self._kept: dict[Row, Tensor] = {}
        """States (t, D) of those that have been met."""
        self._extras = 0
        """How many values a layer gives back beside the hidden states; -1: these alone, and no tuple."""

    @one_thread_at_a_time
    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """What enters layer `start`; zeros for padding, which nothing sees.

        Input shapes: (B, T) both. Output shape: (B, T, D).
        """
        rows = _rows(ids, mask)
        texts = list(dict.fromkeys(row for row, _ in rows if row))
        self._claim(texts)
        fresh = self._computed([row for row in texts if row not in self._kept])
        self._kept |= {row: states for row, states in fresh.items() if row in self._claimed}
        states = torch.zeros(*ids.shape, self.anatomy.width, dtype=self._words.weight.dtype)
        for number, (row, first) in enumerate(rows):
            if row:
                states[number, first : first + len(row)] = fresh[row] if row in fresh else self._kept[row]
        return states.to(self._device, non_blocking=True)

    @one_thread_at_a_time
    def claim(self, ids: Tensor, mask: Tensor) -> None:
        """Set room aside for the texts of a batch, (B, T) both, as `states` does; nothing is computed yet.

        A run that is resumed claims for the batches that came before, so that it keeps what the run kept.
        """
        self._claim([row for row, _ in _rows(ids, mask) if row])

    @contextmanager
    def standing_in(self, states: Tensor, slots: int) -> Iterator[None]:
        """Inside this context the layers below do nothing, and layer `start` gets `states`; enter it before `injected`.

        Args:
            states: (B, T, D), as `states` gives them.
            slots: S; what they hold is put there by others.
        """
        states = functional.pad(states, (0, 0, slots, 0))  # (B, N, D)

        def skip(forward: Forward) -> Forward:
            def pass_through(*args: Any, **kwargs: Any) -> Any:
                hidden = _hidden(args, kwargs)
                return hidden if self._extras < 0 else (hidden, *[None] * self._extras)

            return pass_through

        def enter(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            entering = states.to(_hidden(args, kwargs))
            return ((entering, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": entering})

        with replaced(self.anatomy.layers[: self.start], skip), _hooked_before(self.anatomy.layers[self.start], enter):
            yield

    def _claim(self, texts: list[Row]) -> None:
        for row in texts:
            if row in self._claimed or self.full:
                continue
            size = len(row) * self.anatomy.width * self._words.weight.element_size()
            self.full = self.bytes + size > self.most_bytes
            if not self.full:
                self._claimed.add(row)
                self.bytes += size

    @torch.no_grad()
    def _computed(self, rows: list[Row]) -> dict[Row, Tensor]:
        """The states of rows that are not there, (t, D) each, in main memory."""
        alone = self._claimed if self._device.type == "cpu" else set()
        passes = [*([row] for row in rows if row in alone), [row for row in rows if row not in alone]]
        return {row: states for texts in passes if texts for row, states in self._run(texts).items()}

    def _run(self, rows: list[Row]) -> dict[Row, Tensor]:
        """The states of some rows in one pass."""
        ids = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], True, _PADDING)
        ids = ids.to(self._device)
        mask = (ids != _PADDING).long()
        layout = lay_out(self.anatomy, self._words(ids.clamp(min=0)), mask, None, 0)
        places = {"position_ids": layout.positions} if self.anatomy.takes_position_ids else {}
        below, first = self.anatomy.layers[self.start - 1], self.anatomy.layers[self.start]
        hook = below.register_forward_hook(self._notice)
        try:
            with _hooked_before(first, _stop):
                self.language_model(
                    inputs_embeds=layout.embeddings, attention_mask=layout.mask, use_cache=False, **places
                )
        except _Reached as reached:
            states = reached.hidden.to("cpu", self._words.weight.dtype)
        finally:
            hook.remove()
        # Each row on its own: a view would keep the whole batch.
        return {row: states[number, : len(row)].clone() for number, row in enumerate(rows)}

    def _notice(self, layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._extras = len(output) - 1 if isinstance(output, tuple) else -1


class _Reached(Exception):
    """The window is reached; nothing above it is wanted."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden


def _stop(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NoReturn:
    raise _Reached(_hidden(args, kwargs))


def _hidden(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    hidden: Tensor = args[0] if args else kwargs["hidden_states"]
    return hidden


@contextmanager
def _hooked_before(layer: nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    handle = layer.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _rows(ids: Tensor, mask: Tensor) -> list[tuple[Row, int]]:
    """The texts of a batch, (B, T) both, and where each begins; those of nothing but padding are left empty."""
    return [_row(*pair) for pair in zip(ids.tolist(), mask.tolist(), strict=True)]


def _row(ids: list[int], mask: list[int]) -> tuple[Row, int]:
    """A row without the padding around it, and where it begins."""
    real = [column for column, is_real in enumerate(mask) if is_real]
    if not real:
        return (), 0
    first, last = real[0], real[-1] + 1
    return tuple(
        token if is_real else _PADDING for token, is_real in zip(ids[first:last], mask[first:last], strict=True)
    ), first
