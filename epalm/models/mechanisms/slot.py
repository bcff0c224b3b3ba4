"""eP-ALM's own mechanism: a slot for each modality, filled anew in every layer of the window (ICCV 2023, section 3.2).

Shapes: B batch, K levels, E encoder width, S slots, D language-model width.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from epalm.models.anatomy import Anatomy
from epalm.models.connectors import LinearConnector
from epalm.models.injection import injected
from epalm.models.layout import Layout
from epalm.models.mechanisms.base import FeatureShape, Mechanism, Perceived
from epalm.models.mechanisms.registry import register_mechanism
from epalm.models.window import Window
from epalm.settings import AdapterConfig


@register_mechanism("slot")
class SlotMechanism(Mechanism):
    """Linear projections, and slots in the alphabetical order of the modalities that a call brings."""

    reads: ClassVar[Literal["summaries", "tokens"]] = "summaries"
    has_window: ClassVar[bool] = True

    def __init__(
        self, config: AdapterConfig, anatomy: Anatomy, window: Window, shapes: Mapping[str, FeatureShape]
    ) -> None:
        super().__init__(config, anatomy, window, shapes)
        self.connectors = nn.ModuleDict(
            {
                name: LinearConnector(
                    shape.width, anatomy.width, levels=window.used(shape.levels), shared=config.connector == "shared"
                )
                for name, shape in self.shapes.items()
            }
        )

    @classmethod
    def window_of(cls, config: AdapterConfig, depth: int) -> Window:
        """See `Mechanism`."""
        return Window.resolve(config, depth)

    @classmethod
    def levels_of(
        cls, config: AdapterConfig, window: Window, encoder_levels: Mapping[str, int | None]
    ) -> dict[str, int]:
        """See `Mechanism`."""
        return window.levels(config, encoder_levels)

    @property
    def trained(self) -> nn.Module:
        """See `Mechanism`."""
        return self.connectors

    @torch.no_grad()
    def scale_start(self, factor: float) -> None:
        """See `Mechanism`."""
        for parameter in self.connectors.parameters():
            parameter.mul_(factor)

    def forward(self, features: Mapping[str, Any]) -> Perceived:
        """(B, K, E) -> (B, K, D), by modality, in the order of the slots.

        Levels that reach no layer are left out where each has a linear of its own.
        """
        return {name: self.connectors[name](features[name]) for name in self.shapes if name in features}

    def slots(self, perceived: Perceived) -> int:
        """See `Mechanism`: one for each modality."""
        return len(perceived)

    def entered(self, language_model: nn.Module, layout: Layout, perceived: Perceived) -> AbstractContextManager[None]:
        """See `Mechanism`."""
        plans = {name: self.window.schedule(self.shapes[name].levels) for name in perceived}
        layers = range(self.window.end - self.window.start) if perceived else ()
        states = [
            torch.stack([perceived[name][:, plan[offset]] for name, plan in plans.items()], dim=1) for offset in layers
        ]  # (B, S, D) for each layer of the window
        legacy = self.config.mask == "legacy"
        return injected(language_model, self.anatomy, self.window.start, states, silent=layout.silent, legacy=legacy)
