"""LiMBeR (Merullo et al., 2023): a linear projection of what the encoder gives last, as tokens at the input.

`limber_1` projects the [CLS] token, `limber_all` every token of the last level.

Shapes: B batch, K levels, N encoder tokens, E encoder width, W word-embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from torch import nn

from epalm.models.anatomy import Anatomy
from epalm.models.mechanisms.base import FeatureShape, Perceived
from epalm.models.mechanisms.input_tokens import MASK, InputTokens
from epalm.models.mechanisms.registry import register_mechanism
from epalm.models.window import Window
from epalm.settings import AdapterConfig


@register_mechanism("limber_1")
class LimberOne(InputTokens):
    """One token a modality."""

    reads: ClassVar[Literal["summaries", "tokens"]] = "summaries"

    def __init__(
        self, config: AdapterConfig, anatomy: Anatomy, window: Window, shapes: Mapping[str, FeatureShape]
    ) -> None:
        super().__init__(config, anatomy, window, shapes)
        self.project = nn.ModuleDict(
            {name: nn.Linear(shape.width, self.width_out) for name, shape in self.shapes.items()}
        )

    @property
    def most_positions(self) -> int:
        """See `Mechanism`."""
        return len(self.shapes)

    def forward(self, features: Mapping[str, Any]) -> Perceived:
        """(B, K, E) -> (B, 1, W) of the last level, by modality."""
        return {
            name: project(features[name][:, -1:].to(project.weight, non_blocking=True))
            for name, project in self.project.items()
            if name in features
        }


@register_mechanism("limber_all")
class LimberAll(LimberOne):
    """As many tokens as the encoder has."""

    reads: ClassVar[Literal["summaries", "tokens"]] = "tokens"

    @property
    def most_positions(self) -> int:
        """See `Mechanism`."""
        return sum(shape.tokens or 0 for shape in self.shapes.values())

    def forward(self, features: Mapping[str, Any]) -> Perceived:
        """(B, K, N, E) -> (B, N, W) of the last level, and the mask, by modality."""
        perceived = {}
        for name, project in self.project.items():
            if name in features:
                tokens = features[name].to(project.weight)
                perceived[name] = project(tokens.values[:, -1])
                perceived[f"{name}{MASK}"] = tokens.mask
        return perceived
