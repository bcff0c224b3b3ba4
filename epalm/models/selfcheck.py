"""A short examination of a language model from a family that nobody has proven: may it be trusted with slots?

A handful of passes over four tokens with made-up perception. What must hold for every family is looked at on the
model itself, so that one that bends it (positions that ignore the mask, prefix attention, a recurrent state) is
refused when it is built; and before that on a small copy, so that most are refused before their weights are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from epalm.errors import UnsupportedModelError, is_out_of_memory
from epalm.models.anatomy import ALTERNATIVE, MOST_OFFSET_ROWS, Anatomy, study
from epalm.models.injection import injected
from epalm.models.layout import lay_out
from epalm.models.loss import LabelledRows
from epalm.models.reduced import reduced_copy
from epalm.runtime.locks import lock_of
from epalm.runtime.offloading import execution_device

PROVEN = frozenset(
    {
        "apertus",
        "arcee",
        "bloom",
        "cohere2",
        "ernie4_5",
        "exaone4",
        "falcon",
        "gemma2",
        "gemma3_text",
        "gemma4_text",
        "glm4",
        "gpt2",
        "gpt_neox",
        "gpt_oss",
        "granite",
        "llama",
        "mistral",
        "olmo2",
        "olmo3",
        "opt",
        "phi",
        "phi3",
        "qwen2",
        "qwen3",
        "qwen3_moe",
        "seed_oss",
        "smollm3",
        "stablelm",
    }
)
"""Families that the test suite holds to all of this, and more."""

_TOKENS = 4
_NOT_FINITE = "its logits are not finite"


@torch.no_grad()
def examine(language_model: PreTrainedModel, anatomy: Anatomy) -> None:
    """Look whether slots work in `language_model`; where it is on the `meta` device, in a small copy of it.

    Raises:
        UnsupportedModelError: something that must hold does not.
    """
    if execution_device(language_model.get_input_embeddings()).type == "meta":
        small = _small_copy(language_model, anatomy)
        if small is None:
            return
        language_model, anatomy = small
    try:
        with lock_of(language_model):
            failure = _Examination(language_model, anatomy).first_failure()
    except Exception as error:  # whatever else a foreign forward raises, it means that the model cannot be served
        if is_out_of_memory(error):
            raise
        failure = (
            f"a pass with a slot fails ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        )
    if failure:
        advice = "its weights are damaged, or need another torch_dtype" if failure == _NOT_FINITE else ALTERNATIVE
        raise UnsupportedModelError(f"language model {anatomy.family}: cannot be given perception: {failure}; {advice}")


def _small_copy(language_model: PreTrainedModel, anatomy: Anatomy) -> tuple[PreTrainedModel, Anatomy] | None:
    """A small copy of a model without weights, and its parts."""
    small = reduced_copy(language_model.config)
    if small is None:
        return None
    layers = next(
        name
        for name, module in language_model.named_modules()
        if isinstance(module, nn.ModuleList) and tuple(module) == anatomy.layers
    )
    try:
        return small, study(small, layers)
    except UnsupportedModelError:
        return None  # it is the copy that is not understood


@dataclass
class _Calls:
    """What ran in one pass."""

    layers: list[int] = field(default_factory=list)
    position_tables: list[nn.Embedding] = field(default_factory=list)


class _Examination:
    def __init__(self, language_model: PreTrainedModel, anatomy: Anatomy) -> None:
        self.model, self.anatomy = language_model, anatomy
        self.words = language_model.get_input_embeddings()
        self.device = execution_device(self.words)
        rows = self.words.weight.shape[0]
        self.ids = ((torch.arange(_TOKENS, device=self.device) + 1) * max(1, rows // 7) % rows).unsqueeze(0)  # (1, T)
        generator = torch.Generator().manual_seed(0)
        shape = (len(anatomy.layers), 2, 1, 1, anatomy.width)
        self.states = torch.randn(shape, generator=generator).to(self.device)  # (L, 2, B, S, D)
        self.tolerance = 1e-3 if self.words.weight.dtype == torch.float32 else 5e-2

    def first_failure(self) -> str | None:
        """The first of the things that must hold and does not, in words."""
        count = len(self.anatomy.layers)
        middle = count // 2
        first, second = ([*self.states[middle:, which]] for which in (0, 1))
        with self.watched() as calls:
            expected = self.logits(self.ids, first, middle)  # (1, T, V)
        if not torch.isfinite(expected).all():
            return _NOT_FINITE
        if calls.layers != [*range(count)]:
            return "its layers do not run once each, one after the other"
        table = self.anatomy.position_table
        if calls.position_tables != ([] if table is None or table.weight.is_meta else [table]):
            return "its learned positions are not where its configuration counts them"
        changed = self.ids.clone()
        changed[:, -1] = self.ids[:, 0]
        if not self.close(self.logits(changed, first, middle)[:, :-1], expected[:, :-1]):
            return "a later token changes an earlier position"
        if torch.equal(self.logits(self.ids, second, middle), expected):
            return "perception does not reach the text"
        last = [self.logits(self.ids, [self.states[-1, which]], count - 1) for which in (0, 1)]
        if torch.equal(*last):
            return "perception in its last layer does not reach the text"
        plain = self.model(input_ids=self.ids, use_cache=False).logits
        if not self.close(self.logits(self.ids, [self.states[0, 0]], count), plain):
            return "a slot that no layer may see changes its output"
        if not self.close(self.logits(self.ids, first, middle, padding=2), expected):
            return "padding on the left changes its output"
        if not self.close(self.cached(first, middle), expected[:, -1]):
            return "decoding with a cache differs from decoding without"
        row = LabelledRows(torch.zeros(1, dtype=torch.long), torch.tensor([_TOKENS]), torch.zeros(1))
        with row.only(self.model.get_output_embeddings()):
            labelled = self.logits(self.ids, first, middle, whole=True)
        if labelled.shape[1] != 1 or not self.close(labelled[:, 0], expected[:, -1]):
            return "its logits do not come out of its output embedding alone"
        if self.hides():
            return "its attention hides distant positions by itself, where the slots stand"
        return None

    @contextmanager
    def watched(self) -> Iterator[_Calls]:
        """Inside this context it is written down which layers and tables of positions run."""
        calls = _Calls()
        tables = [module for module in self.model.modules() if isinstance(module, nn.Embedding)]
        tables = [table for table in tables if table is not self.words and not table.weight.is_meta]

        def look(table: nn.Embedding, args: tuple[Any, ...], output: Any) -> None:
            if _is_read_by_position(table, output):
                calls.position_tables.append(table)

        with ExitStack() as hooks:
            for index, layer in enumerate(self.anatomy.layers):
                note = partial(lambda index, *_: calls.layers.append(index), index)
                hooks.callback(layer.register_forward_pre_hook(note).remove)
            for table in tables:
                hooks.callback(table.register_forward_hook(look).remove)
            yield calls

    def logits(
        self, ids: Tensor, states: Sequence[Tensor], start: int, padding: int = 0, whole: bool = False
    ) -> Tensor:
        """Logits at the text's tokens, or all there are."""
        ids = torch.cat([ids[:, :1].expand(-1, padding), ids], dim=1)
        mask = (torch.arange(ids.shape[1], device=self.device) >= padding).long().unsqueeze(0)
        layout = lay_out(self.anatomy, self.words(ids), mask, None, 1)
        with injected(self.model, self.anatomy, start, states):
            logits = self.model(
                inputs_embeds=layout.embeddings,
                attention_mask=layout.mask,
                use_cache=False,
                **self.placed(layout.positions),
            ).logits
        return logits if whole else logits[:, 1 + padding :]

    def cached(self, states: Sequence[Tensor], start: int) -> Tensor:
        """(1, V): logits at the last token, all before it coming from a cache."""
        layout = lay_out(self.anatomy, self.words(self.ids), torch.ones_like(self.ids), None, 1)
        cache, last = DynamicCache(), layout.mask.shape[1] - 1
        with injected(self.model, self.anatomy, start, states):
            for part, mask in ((slice(0, last), layout.mask[:, :last]), (slice(last, None), layout.mask)):
                logits = self.model(
                    inputs_embeds=layout.embeddings[:, part],
                    attention_mask=mask,
                    past_key_values=cache,
                    use_cache=True,
                    **self.placed(layout.positions[:, part]),
                ).logits
        return logits[:, -1]

    def placed(self, positions: Tensor) -> dict[str, Tensor]:
        return {"position_ids": positions} if self.anatomy.takes_position_ids else {}

    def close(self, found: Tensor, expected: Tensor) -> bool:
        """Equal but for rounding."""
        scale = expected.float().abs().max().clamp(min=1e-3)
        return bool((found.float() - expected.float()).abs().max() <= self.tolerance * scale)

    def hides(self) -> bool:
        """Whether an attention module keeps a causal pattern of its own that closes the first column somewhere."""
        for layer in self.anatomy.layers:
            for buffer in layer.buffers():
                square = not buffer.is_meta and buffer.ndim == 4 and buffer.shape[-1] == buffer.shape[-2] > 1
                if square and buffer.dtype in (torch.bool, torch.uint8) and not buffer[..., 0].all():
                    return True
        return False


def _is_read_by_position(table: nn.Embedding, output: Tensor) -> bool:
    """Whether what a table gives for `_TOKENS` tokens are its rows one after the other, from one of the first on."""
    rows = output.reshape(-1, table.embedding_dim)[-_TOKENS:]
    starts = range(min(1 + MOST_OFFSET_ROWS, table.num_embeddings - _TOKENS + 1))
    return not torch.equal(rows[0], rows[1]) and any(
        torch.equal(rows, table.weight[start : start + _TOKENS]) for start in starts
    )
