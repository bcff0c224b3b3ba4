"""DePALM's inner variant (Vallaeys et al., 2024): fresh tokens in each of 12 of 32 layers, and nowhere else.

The encoder's last 4 levels go through one mapper each time, shared; each level serves as many layers of the window, one
after the other, under an RMSNorm with a scale and a shift of the layer's own. A layer's tokens stand in slots that the
text sees in that layer alone, so that they are as if put in before it and taken out behind it.

Shapes: B batch, K levels, N encoder tokens, E encoder width, Q queries, S slots, D language-model width.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from epalm.models.anatomy import Anatomy
from epalm.models.injection import injected
from epalm.models.layout import Layout
from epalm.models.mechanisms.base import FeatureShape, Mechanism, Perceived
from epalm.models.mechanisms.mapl import QUERIES, query_mapper
from epalm.models.mechanisms.registry import register_mechanism
from epalm.models.window import Window
from epalm.settings import AdapterConfig

_LAYERS = 12
_OF = 32
_LEVELS = 4


def twelve_of(config: AdapterConfig, depth: int) -> Window:
    """12 of 32 layers, from layer 17 on, and the same share of other depths; or as the settings say."""
    start = round(17 * depth / _OF) if config.start is None else config.start
    start = min(start, (config.end or depth) - 1)
    end = min(depth, start + max(1, round(_LAYERS * depth / _OF))) if config.end is None else config.end
    return Window.resolve(config.model_copy(update={"start": start, "end": end}), depth)


@register_mechanism("depalm_qp_inner")
class DepalmInner(Mechanism):
    """32 slots a modality."""

    reads: ClassVar[Literal["summaries", "tokens"]] = "tokens"
    has_window: ClassVar[bool] = True
    default_levels: ClassVar[int] = _LEVELS

    def __init__(
        self, config: AdapterConfig, anatomy: Anatomy, window: Window, shapes: Mapping[str, FeatureShape]
    ) -> None:
        super().__init__(config, anatomy, window, shapes)
        self.mappers = nn.ModuleDict(
            {name: query_mapper(shape.width, anatomy.width) for name, shape in self.shapes.items()}
        )
        layers = window.end - window.start
        self.scale = nn.Parameter(torch.ones(layers, anatomy.width))
        self.shift = nn.Parameter(torch.zeros(layers, anatomy.width))

    @classmethod
    def window_of(cls, config: AdapterConfig, depth: int) -> Window:
        """See `Mechanism`."""
        return twelve_of(config, depth)

    @classmethod
    def levels_of(
        cls, config: AdapterConfig, window: Window, encoder_levels: Mapping[str, int | None]
    ) -> dict[str, int]:
        """See `Mechanism`: no more than there are layers."""
        chosen = super().levels_of(config, window, encoder_levels)
        return {name: min(levels, window.end - window.start) for name, levels in chosen.items()}

    def forward(self, features: Mapping[str, Any]) -> Perceived:
        """(B, K, N, E) -> (B, K, Q, D), by modality, normalised."""
        perceived = {}
        for name, mapper in self.mappers.items():
            if name in features:
                tokens = features[name].to(mapper.queries)
                mapped = torch.stack(
                    [mapper(tokens.values[:, level], tokens.mask) for level in range(tokens.levels)], dim=1
                )
                perceived[name] = functional.rms_norm(mapped, mapped.shape[-1:])
        return perceived

    def slots(self, perceived: Perceived) -> int:
        """See `Mechanism`."""
        return QUERIES * len(perceived)

    def entered(self, language_model: nn.Module, layout: Layout, perceived: Perceived) -> AbstractContextManager[None]:
        """See `Mechanism`."""
        plans = {name: self.window.schedule(self.shapes[name].levels) for name in perceived}
        states: list[Tensor] = []  # (B, S, D) for each layer of the window
        for offset in range(self.window.end - self.window.start) if perceived else ():
            of_layer = [perceived[name][:, plan[offset]] for name, plan in plans.items()]
            states.append(torch.cat(of_layer, dim=1) * self.scale[offset] + self.shift[offset])
        return injected(
            language_model, self.anatomy, self.window.start, states, silent=layout.silent, end=self.window.end
        )
