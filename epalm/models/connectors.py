"""From the encoder's width to the language model's: the linear connector (eP-ALM section 3.2).

Shapes: F (B, K, E) -> v (B, K, D), `v_k = A F_k + b`, with one (A, b) for all levels or one for each.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LinearConnector(nn.ModuleList):
    """One linear projection E -> D shared by all levels, or one per level.

    Weights start as `torch.nn.Linear`'s do: a normalised feature then enters the slot with elements of about unit size.
    """

    def __init__(self, width_in: int, width_out: int, *, levels: int, shared: bool) -> None:
        count = 1 if shared else levels
        super().__init__(nn.Linear(width_in, width_out, dtype=torch.float32) for _ in range(count))

    def forward(self, features: Tensor) -> Tensor:
        """Project every level.

        Input shape: (B, K, E). Output shape: (B, K, D), float32; levels beyond the last linear are left out.
        """
        features = features.to(next(self.parameters()), non_blocking=True)
        if len(self) == 1:
            return self[0](features)
        return torch.stack([linear(features[:, level]) for level, linear in enumerate(self)], dim=1)
