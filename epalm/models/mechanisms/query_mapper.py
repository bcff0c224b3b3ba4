"""Learned queries that read an encoder's tokens, and come out as a few tokens of another width.

Linear(E -> H); the queries behind the tokens; a transformer encoder over both; of its outputs those of the queries;
Linear(H -> D). No token is seen that is padding.

Shapes: B batch, N encoder tokens, E encoder width, Q queries, H hidden width, D width that comes out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class QueryMapper(nn.Module):
    """Trained as a whole.

    Args:
        width_in: E.
        width_out: D.
        hidden: H.
        feed_forward: width of the feed-forward blocks.
        queries: Q; start at N(0, 1).
        layers: of the transformer encoder, each with its norms behind its blocks.
        heads: of its attention.
        dropout: in its layers.
    """

    def __init__(
        self,
        width_in: int,
        width_out: int,
        *,
        hidden: int,
        feed_forward: int,
        queries: int,
        layers: int,
        heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.project_in = nn.Linear(width_in, hidden)
        self.queries = nn.Parameter(torch.randn(queries, hidden))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(hidden, heads, feed_forward, dropout, "gelu", batch_first=True)
            for _ in range(layers)
        )
        self.project_out = nn.Linear(hidden, width_out)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Input shapes: tokens (B, N, E), mask (B, N) of bool, true for real ones. Output shape: (B, Q, D)."""
        count = len(self.queries)
        queries = self.queries.expand(len(tokens), -1, -1)
        states = torch.cat([self.project_in(tokens), queries], dim=1)  # (B, N + Q, H)
        padding = torch.cat([~mask, mask.new_zeros(len(mask), count)], dim=1)
        for layer in self.layers:
            states = layer(states, src_key_padding_mask=padding)
        return self.project_out(states[:, -count:])
