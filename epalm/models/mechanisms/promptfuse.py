"""PromptFuse (Liang et al., 2022): the encoder's last [CLS] as one token at the input, and nothing trained but the soft
prompt.

Where E is not W a fixed orthonormal map stands between them.

Shapes: B batch, K levels, E encoder width, W word-embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from epalm.models.anatomy import Anatomy
from epalm.models.mechanisms.base import FeatureShape, Perceived
from epalm.models.mechanisms.input_tokens import InputTokens
from epalm.models.mechanisms.registry import register_mechanism
from epalm.models.window import Window
from epalm.settings import AdapterConfig

_SEED = 0


@register_mechanism("promptfuse")
class PromptFuse(InputTokens):
    """One token a modality."""

    reads: ClassVar[Literal["summaries", "tokens"]] = "summaries"

    def __init__(
        self, config: AdapterConfig, anatomy: Anatomy, window: Window, shapes: Mapping[str, FeatureShape]
    ) -> None:
        super().__init__(config, anatomy, window, shapes)
        self.maps = nn.Module()
        for name, shape in self.shapes.items():
            self.maps.register_buffer(name, _orthonormal(shape.width, self.width_out), persistent=False)

    @property
    def most_positions(self) -> int:
        """See `Mechanism`."""
        return len(self.shapes)

    def forward(self, features: Mapping[str, Any]) -> Perceived:
        """(B, K, E) -> (B, 1, W) of the last level, by modality."""
        tokens = {}
        for name in self.shapes:
            if name in features:
                turn = self.maps.get_buffer(name)
                last = features[name][:, -1:].to(turn)
                tokens[name] = last if turn.shape[0] == turn.shape[1] else last @ turn
        return tokens


def _orthonormal(width_in: int, width_out: int) -> Tensor:
    """(E, W), the same for the same widths: orthonormal rows, or columns where there are more rows; I where E = W."""
    if width_in == width_out:
        return torch.eye(width_in)
    generator = torch.Generator().manual_seed(_SEED)
    longer, shorter = max(width_in, width_out), min(width_in, width_out)
    basis = torch.linalg.qr(torch.randn(longer, shorter, generator=generator, dtype=torch.float64, device="cpu"))[0]
    return (basis if width_in == longer else basis.T).float().contiguous()
