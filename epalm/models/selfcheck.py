"""A short examination of a language model from a family that nobody has proven: may it be trusted with slots?

A handful of passes over four tokens with made-up perception. What must hold for every family is looked at on the
model itself, so that one that bends it (positions that ignore the mask, prefix attention, a recurrent state) is
refused when it is built.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from epalm.errors import UnsupportedModelError
from epalm.models.anatomy import Anatomy
from epalm.models.injection import injected
from epalm.models.layout import lay_out
from epalm.models.loss import LabelledRows

PROVEN = frozenset(
    {
        "bloom",
        "falcon",
        "gemma2",
        "gemma3_text",
        "gpt2",
        "gpt_neox",
        "llama",
        "mistral",
        "opt",
        "phi3",
        "qwen2",
        "qwen3",
        "smollm3",
        "stablelm",
    }
)
"""Families that the test suite holds to all of this, and more, with eager and sdpa attention."""

_TOKENS = 4


@torch.no_grad()
def examine(language_model: PreTrainedModel, anatomy: Anatomy) -> None:
    """Look whether slots work in `language_model`; on the `meta` device there is nothing to look at.

    Raises:
        UnsupportedModelError: something that must hold does not.
    """
    if language_model.get_input_embeddings().weight.is_meta:
        return
    try:
        failure = _Examination(language_model, anatomy).first_failure()
    except Exception as error:  # whatever a foreign forward raises, it means that the model cannot be served
        failure = (
            f"a pass with a slot fails ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        )
    if failure:
        raise UnsupportedModelError(f"language model {anatomy.family}: cannot be given perception: {failure}")


class _Examination:
    def __init__(self, language_model: PreTrainedModel, anatomy: Anatomy) -> None:
        self.model, self.anatomy = language_model, anatomy
        self.words = language_model.get_input_embeddings()
        self.device = self.words.weight.device
        rows = self.words.weight.shape[0]
        self.ids = ((torch.arange(_TOKENS, device=self.device) + 1) * max(1, rows // 7) % rows).unsqueeze(0)  # (1, T)
        generator = torch.Generator().manual_seed(0)
        shape = (len(anatomy.layers), 2, 1, 1, anatomy.width)
        self.states = torch.randn(shape, generator=generator).to(self.device)  # (L, 2, B, S, D)
        self.tolerance = 1e-3 if self.words.weight.dtype == torch.float32 else 5e-2

    def first_failure(self) -> str | None:
        """The first of the things that must hold and does not, in words."""
        middle = len(self.anatomy.layers) // 2
        first, second = ([*self.states[middle:, which]] for which in (0, 1))
        expected = self.logits(self.ids, first, middle)  # (1, T, V)
        if not torch.isfinite(expected).all():
            return "its logits are not finite"
        changed = self.ids.clone()
        changed[:, -1] = self.ids[:, 0]
        if not self.close(self.logits(changed, first, middle)[:, :-1], expected[:, :-1]):
            return "a later token changes an earlier position"
        if torch.equal(self.logits(self.ids, second, middle), expected):
            return "perception does not reach the text"
        plain = self.model(input_ids=self.ids, use_cache=False).logits
        if not self.close(self.logits(self.ids, [self.states[0, 0]], len(self.anatomy.layers)), plain):
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
                square = buffer.ndim == 4 and buffer.shape[-1] == buffer.shape[-2] > 1
                if square and buffer.dtype in (torch.bool, torch.uint8) and not buffer[..., 0].all():
                    return True
        return False
