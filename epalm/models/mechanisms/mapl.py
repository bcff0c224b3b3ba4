"""MAPL (Mañas et al., 2023): a small transformer turns the encoder's tokens into 32 tokens at the input.

Shapes: B batch, K levels, N encoder tokens, E encoder width, Q queries, W word-embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from torch import nn

from epalm.models.anatomy import Anatomy
from epalm.models.mechanisms.base import FeatureShape, Perceived
from epalm.models.mechanisms.input_tokens import InputTokens
from epalm.models.mechanisms.query_mapper import QueryMapper
from epalm.models.mechanisms.registry import register_mechanism
from epalm.models.window import Window
from epalm.settings import AdapterConfig

QUERIES = 32
_MAPL = {"hidden": 256, "feed_forward": 256, "layers": 4}
_DEPALM = {"hidden": 1024, "feed_forward": 1024, "layers": 2}


@register_mechanism("mapl")
class Mapl(InputTokens):
    """32 tokens a modality, from the last level."""

    reads: ClassVar[Literal["summaries", "tokens"]] = "tokens"
    sizes: ClassVar[Mapping[str, int]] = _MAPL

    def __init__(
        self, config: AdapterConfig, anatomy: Anatomy, window: Window, shapes: Mapping[str, FeatureShape]
    ) -> None:
        super().__init__(config, anatomy, window, shapes)
        self.mappers = nn.ModuleDict(
            {name: query_mapper(shape.width, self.width_out, self.sizes) for name, shape in self.shapes.items()}
        )

    @property
    def most_positions(self) -> int:
        """See `Mechanism`."""
        return QUERIES * len(self.shapes)

    def forward(self, features: Mapping[str, Any]) -> Perceived:
        """(B, K, N, E) -> (B, Q, W), by modality."""
        perceived = {}
        for name, mapper in self.mappers.items():
            if name in features:
                tokens = features[name].to(mapper.queries)
                perceived[name] = mapper(tokens.values[:, -1], tokens.mask)
        return perceived


@register_mechanism("depalm_qp_l0")
class DepalmAtInput(Mapl):
    """DePALM's QPMapper (Vallaeys et al., 2024): the same, wider and of two layers."""

    sizes: ClassVar[Mapping[str, int]] = _DEPALM


def query_mapper(width_in: int, width_out: int, sizes: Mapping[str, int] = _DEPALM) -> QueryMapper:
    """A mapper to 32 tokens, by default of DePALM's sizes."""
    return QueryMapper(width_in, width_out, queries=QUERIES, heads=8, dropout=0.1, **sizes)
