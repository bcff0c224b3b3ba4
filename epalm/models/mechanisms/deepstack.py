"""DeepStack (Meng et al., 2024; the way of Qwen3-VL): 16 tokens at the input, and further levels added on the way.

The last level's tokens are pooled to 16 (4 x 4 of a picture, else 16 equal spans) and projected to the input; those of
K - 1 levels before it, shallow to deep, each with a linear of its own that starts at zero, are added to the states of
those same positions on entering the language model's layers 1 to K - 1.

Shapes: B batch, K levels, N encoder tokens, E encoder width, M = 16 tokens, D and W language-model widths.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from epalm.models.anatomy import Anatomy
from epalm.models.injection import injected, repeated
from epalm.models.layout import Layout
from epalm.models.mechanisms.base import FeatureShape, Perceived
from epalm.models.mechanisms.input_tokens import InputTokens
from epalm.models.mechanisms.registry import register_mechanism
from epalm.models.window import Window
from epalm.settings import AdapterConfig

_SIDE = 4
_TOKENS = _SIDE * _SIDE
_LEVELS = 4
_STACK = " stack"
"""What is behind the name of a modality where that is kept which is added on the way."""


@register_mechanism("deepstack")
class DeepStack(InputTokens):
    """16 tokens a modality."""

    reads: ClassVar[Literal["summaries", "tokens"]] = "tokens"
    default_levels: ClassVar[int] = _LEVELS

    def __init__(
        self, config: AdapterConfig, anatomy: Anatomy, window: Window, shapes: Mapping[str, FeatureShape]
    ) -> None:
        super().__init__(config, anatomy, window, shapes)
        self.project = nn.ModuleDict(
            {name: nn.Linear(shape.width, self.width_out) for name, shape in self.shapes.items()}
        )
        self.stack: Any = nn.ModuleDict(
            {
                name: nn.ModuleList(_zero_linear(shape.width, anatomy.width) for _ in range(shape.levels - 1))
                for name, shape in self.shapes.items()
            }
        )

    @classmethod
    def levels_of(
        cls, config: AdapterConfig, window: Window, encoder_levels: Mapping[str, int | None]
    ) -> dict[str, int]:
        """See `Mechanism`: no more than there are layers."""
        chosen = super().levels_of(config, window, encoder_levels)
        return {name: min(levels, window.end) for name, levels in chosen.items()}

    @property
    def most_positions(self) -> int:
        """See `Mechanism`."""
        return _TOKENS * len(self.shapes)

    def forward(self, features: Mapping[str, Any]) -> Perceived:
        """(B, K, N, E) -> (B, M, W), and for the layers on the way (B, K - 1, M, D), by modality."""
        perceived = {}
        for name, project in self.project.items():
            if name in features:
                shape, tokens = self.shapes[name], features[name].to(project.weight)
                special = shape.special_tokens
                pooled = pool(tokens.values[:, :, special:], tokens.mask[:, special:], shape.grid)  # (B, K, M, E)
                perceived[name] = project(pooled[:, -1])
                if len(self.stack[name]):
                    added = [linear(pooled[:, level]) for level, linear in enumerate(self.stack[name])]
                    perceived[f"{name}{_STACK}"] = torch.stack(added, dim=1)
        return perceived

    def front(self, perceived: Perceived) -> Any:
        """See `Mechanism`."""
        return super().front({name: tokens for name, tokens in perceived.items() if not name.endswith(_STACK)})

    def entered(self, language_model: nn.Module, layout: Layout, perceived: Perceived) -> AbstractContextManager[None]:
        """See `Mechanism`."""
        names = [name for name in self.shapes if name in perceived]
        first = (layout.mask == 0).long().cumprod(1).sum(1)  # (B,): where the perceived tokens begin, behind padding

        def add(level: int, hidden: Tensor, holds_front: bool) -> Tensor:
            if not holds_front:
                return hidden
            for number, name in enumerate(names):
                stack = perceived.get(f"{name}{_STACK}")
                if stack is None or level >= stack.shape[1]:
                    continue
                added = repeated(stack[:, level], hidden).to(hidden)  # (B, M, D)
                columns = repeated(first, hidden).to(hidden.device) + number * _TOKENS
                places = columns[:, None] + torch.arange(_TOKENS, device=hidden.device)  # (B, M)
                hidden = hidden.scatter_add(1, places.unsqueeze(-1).expand_as(added), added)
            return hidden

        most = max((len(self.stack[name]) for name in names), default=0)
        changes = {level + 1: partial(add, level) for level in range(most)}
        return injected(language_model, self.anatomy, 0, (), silent=layout.silent, changes=changes)


def pool(tokens: Tensor, mask: Tensor, grid: tuple[int, int] | None) -> Tensor:
    """The means of 4 x 4 fields of a grid, or of 16 equal spans of what is real: (B, K, 16, E).

    Fields and spans overlap where the sides are no multiples, as in adaptive pooling.

    Args:
        tokens: (B, K, N, E), without special ones.
        mask: (B, N) of bool, true for real ones, which stand in front.
        grid: rows and columns, if the N form a grid.
    """
    batch, _, count, _ = tokens.shape
    if grid is not None and grid[0] * grid[1] == count:
        shares = torch.kron(
            _spans(torch.tensor([grid[0]]), grid[0], _SIDE)[0], _spans(torch.tensor([grid[1]]), grid[1], _SIDE)[0]
        )
        shares = shares.to(tokens).expand(batch, -1, -1)
    else:
        shares = _spans(mask.sum(1).cpu(), count, _TOKENS).to(tokens)
    return torch.einsum("bmn,bkne->bkme", shares, tokens)


def _spans(lengths: Tensor, columns: int, spans: int) -> Tensor:
    """What each of `columns` counts for in the mean of each span of its row: (B, spans, columns)."""
    number, place = torch.arange(spans), torch.arange(columns)
    first = (number * lengths[:, None]) // spans  # (B, spans)
    last = -(-(number + 1) * lengths[:, None] // spans)
    inside = (place >= first[..., None]) & (place < last[..., None])
    return inside / inside.sum(-1, keepdim=True).clamp(min=1)


def _zero_linear(width_in: int, width_out: int) -> nn.Linear:
    linear = nn.Linear(width_in, width_out)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
