"""Gated cross-attention, in the manner of Flamingo (Alayrac et al., 2022), with one small module for 12 of 32 layers.

What enters a layer of the window, `h`, becomes `h + tanh(g) * W_o attention(q(h), k(x), v(x))`, where x is every token
of the encoder's last level and g a gate that starts closed, at 0.

Shapes: B batch, K levels, N encoder tokens, E encoder width, T tokens of a call, A width of
attention, D language-model width.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from epalm.models.anatomy import Anatomy
from epalm.models.injection import injected, repeated
from epalm.models.layout import Layout
from epalm.models.mechanisms.base import MASK, FeatureShape, Mechanism, Perceived
from epalm.models.mechanisms.depalm_inner import twelve_of
from epalm.models.mechanisms.registry import register_mechanism
from epalm.models.window import Window
from epalm.settings import AdapterConfig

_WIDTH = 1024
_HEADS = 8


@register_mechanism("cross_attention")
class CrossAttention(Mechanism):
    """No positions are taken; every token of the text looks at the encoder's tokens by itself."""

    reads: ClassVar[Literal["summaries", "tokens"]] = "tokens"
    has_window: ClassVar[bool] = True

    def __init__(
        self, config: AdapterConfig, anatomy: Anatomy, window: Window, shapes: Mapping[str, FeatureShape]
    ) -> None:
        super().__init__(config, anatomy, window, shapes)
        self.query = nn.Linear(anatomy.width, _WIDTH)
        self.key = nn.ModuleDict({name: nn.Linear(shape.width, _WIDTH) for name, shape in self.shapes.items()})
        self.value = nn.ModuleDict({name: nn.Linear(shape.width, _WIDTH) for name, shape in self.shapes.items()})
        self.out = nn.Linear(_WIDTH, anatomy.width)
        self.gate = nn.Parameter(torch.zeros(1))

    @classmethod
    def window_of(cls, config: AdapterConfig, depth: int) -> Window:
        """See `Mechanism`."""
        return twelve_of(config, depth)

    def forward(self, features: Mapping[str, Any]) -> Perceived:
        """(B, K, N, E) -> keys and values of all modalities, (B, N, A), and their mask (B, N)."""
        keys, values, masks = [], [], []
        for name in self.shapes:
            if name in features:
                tokens = features[name].to(self.gate)
                keys.append(self.key[name](tokens.values[:, -1]))
                values.append(self.value[name](tokens.values[:, -1]))
                masks.append(tokens.mask)
        if not keys:
            return {}
        return {"keys": torch.cat(keys, 1), "values": torch.cat(values, 1), f"keys{MASK}": torch.cat(masks, 1)}

    def entered(self, language_model: nn.Module, layout: Layout, perceived: Perceived) -> AbstractContextManager[None]:
        """See `Mechanism`."""

        def look(hidden: Tensor, holds_front: bool) -> Tensor:
            return hidden + self._seen(hidden, perceived).to(hidden)

        layers = range(self.window.start, self.window.end) if perceived else ()
        return injected(language_model, self.anatomy, 0, (), silent=layout.silent, changes=dict.fromkeys(layers, look))

    def _seen(self, hidden: Tensor, perceived: Perceived) -> Tensor:
        """Input and output shape: (B, T, D)."""
        keys, values, mask = (repeated(perceived[name], hidden) for name in ("keys", "values", f"keys{MASK}"))

        def by_head(states: Tensor) -> Tensor:
            return states.unflatten(-1, (_HEADS, -1)).transpose(1, 2)  # (B, heads, T or N, A / heads)

        attended = functional.scaled_dot_product_attention(
            by_head(self.query(hidden.to(self.query.weight))),
            by_head(keys.to(hidden.device)),
            by_head(values.to(hidden.device)),
            attn_mask=mask[:, None, None].to(hidden.device),
        )
        seen: Tensor = self.gate.tanh() * self.out(attended.transpose(1, 2).flatten(2))
        return seen
