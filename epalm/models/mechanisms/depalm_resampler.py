"""DePALM's resamplers without queries (Vallaeys et al., 2024): fewer tokens at the input by pooling or by chance.

Patches are taken together four at a time: 2 x 2 of a grid, else four that follow each other; where fewer are left, the
rest. `depalm_r_avgpool` takes their mean, `depalm_r_linear` a linear of them side by side. `depalm_r_rand` takes all,
and in training a random part. [CLS] and other special tokens stay in front as they are.

Shapes: B batch, K levels, N encoder tokens, E encoder width, M tokens that are left, W word-embedding width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from epalm.models.anatomy import Anatomy
from epalm.models.mechanisms.base import FeatureShape, Perceived
from epalm.models.mechanisms.input_tokens import MASK, InputTokens
from epalm.models.mechanisms.registry import register_mechanism
from epalm.models.window import Window
from epalm.settings import AdapterConfig

_SIDE = 2
_GROUP = _SIDE * _SIDE
_FRACTION = {"mean": 0.25, "std": 0.2, "least": 0.0625, "most": 0.5}
_MOST_WITH = 0.1
"""How often the random part is the largest."""


@register_mechanism("depalm_r_avgpool")
class DepalmAveragePool(InputTokens):
    """Projected, four averaged, normalised, projected once more."""

    reads: ClassVar[Literal["summaries", "tokens"]] = "tokens"

    def __init__(
        self, config: AdapterConfig, anatomy: Anatomy, window: Window, shapes: Mapping[str, FeatureShape]
    ) -> None:
        super().__init__(config, anatomy, window, shapes)
        self.project = nn.ModuleDict(
            {name: nn.Linear(shape.width, self.width_out) for name, shape in self.shapes.items()}
        )
        self.reduce = nn.ModuleDict({name: self._reducer() for name in self.shapes})
        self.finish = nn.ModuleDict(
            {
                name: nn.Sequential(nn.RMSNorm(self.width_out), nn.Linear(self.width_out, self.width_out))
                for name in self.shapes
            }
        )

    @property
    def most_positions(self) -> int:
        """See `Mechanism`."""
        return sum(_most_groups(shape) for shape in self.shapes.values())

    def forward(self, features: Mapping[str, Any]) -> Perceived:
        """(B, K, N, E) -> (B, M, W) of the last level, and the mask, by modality."""
        perceived = {}
        for name, project in self.project.items():
            if name in features:
                shape, tokens = self.shapes[name], features[name].to(project.weight)
                special = shape.special_tokens
                projected = project(tokens.values[:, -1])  # (B, N, W)
                groups, there = grouped(projected[:, special:], tokens.mask[:, special:], shape.grid)
                reduced = self._reduced(name, groups, there)  # (B, M - special, W)
                together = torch.cat([projected[:, :special], reduced], dim=1)
                perceived[name] = self.finish[name](together)
                perceived[f"{name}{MASK}"] = torch.cat([tokens.mask[:, :special], there.any(-1)], dim=1)
        return perceived

    def _reducer(self) -> nn.Module:
        return nn.Identity()

    def _reduced(self, name: str, groups: Tensor, there: Tensor) -> Tensor:
        """Input shapes: (B, G, 4, W) and (B, G, 4) of bool. Output shape: (B, G, W)."""
        weights = there.unsqueeze(-1).to(groups)
        return (groups * weights).sum(2) / weights.sum(2).clamp(min=1)


@register_mechanism("depalm_r_linear")
class DepalmLinearPool(DepalmAveragePool):
    """The same, with a linear of four tokens side by side in place of their mean; what is missing there is 0."""

    def _reducer(self) -> nn.Module:
        return nn.Linear(_GROUP * self.width_out, self.width_out)

    def _reduced(self, name: str, groups: Tensor, there: Tensor) -> Tensor:
        reduced: Tensor = self.reduce[name]((groups * there.unsqueeze(-1).to(groups)).flatten(2))
        return reduced


@register_mechanism("depalm_r_rand")
class DepalmRandom(InputTokens):
    """Normalised and projected; in training a random part of the patches, drawn anew for each row."""

    reads: ClassVar[Literal["summaries", "tokens"]] = "tokens"

    def __init__(
        self, config: AdapterConfig, anatomy: Anatomy, window: Window, shapes: Mapping[str, FeatureShape]
    ) -> None:
        super().__init__(config, anatomy, window, shapes)
        self.project: Any = nn.ModuleDict(
            {
                name: nn.Sequential(nn.RMSNorm(shape.width), nn.Linear(shape.width, self.width_out))
                for name, shape in self.shapes.items()
            }
        )

    @property
    def most_positions(self) -> int:
        """See `Mechanism`."""
        return sum(shape.tokens or 0 for shape in self.shapes.values())

    def forward(self, features: Mapping[str, Any]) -> Perceived:
        """(B, K, N, E) -> (B, M, W) of the last level, and the mask, by modality."""
        perceived = {}
        for name, project in self.project.items():
            if name in features:
                tokens = features[name].to(project[1].weight)
                values, mask = tokens.values[:, -1], tokens.mask
                if self.training:
                    values, mask = _drawn(values, mask, self.shapes[name].special_tokens)
                perceived[name], perceived[f"{name}{MASK}"] = project(values), mask
        return perceived


def grouped(tokens: Tensor, mask: Tensor, grid: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
    """Tokens four at a time: (B, G, 4, W) and their mask (B, G, 4).

    Args:
        tokens: (B, N, W), without special ones.
        mask: (B, N) of bool.
        grid: rows and columns, if the N form a grid.
    """
    batch, count, width = tokens.shape
    if grid is None or grid[0] * grid[1] != count:
        missing = -count % _GROUP
        tokens, mask = functional.pad(tokens, (0, 0, 0, missing)), functional.pad(mask, (0, missing))
        return tokens.view(batch, -1, _GROUP, width), mask.view(batch, -1, _GROUP)
    rows, columns = grid
    right, below = -columns % _SIDE, -rows % _SIDE
    tokens = functional.pad(tokens.view(batch, rows, columns, width), (0, 0, 0, right, 0, below))
    mask = functional.pad(mask.view(batch, rows, columns), (0, right, 0, below))
    rows, columns = (rows + below) // _SIDE, (columns + right) // _SIDE
    tokens = tokens.view(batch, rows, _SIDE, columns, _SIDE, width).transpose(2, 3)
    mask = mask.view(batch, rows, _SIDE, columns, _SIDE).transpose(2, 3)
    return tokens.reshape(batch, -1, _GROUP, width), mask.reshape(batch, -1, _GROUP)


def _most_groups(shape: FeatureShape) -> int:
    if shape.tokens is None:
        return 0
    patches = shape.tokens - shape.special_tokens
    if shape.grid is not None and shape.grid[0] * shape.grid[1] == patches:
        groups = math.ceil(shape.grid[0] / _SIDE) * math.ceil(shape.grid[1] / _SIDE)
    else:
        groups = math.ceil(patches / _GROUP)
    return groups + shape.special_tokens


def _drawn(tokens: Tensor, mask: Tensor, special: int) -> tuple[Tensor, Tensor]:
    """A random part of the real patches of each row, in their order, behind the special tokens.

    Input shapes: (B, N, E) and (B, N). Output shapes: (B, M, E) and (B, M).
    """
    patches = mask[:, special:]
    counts = patches.sum(1)  # (B,)
    fractions = torch.normal(_FRACTION["mean"], _FRACTION["std"], (len(mask),)).clamp(
        _FRACTION["least"], _FRACTION["most"]
    )
    fractions = torch.where(torch.rand(len(mask)) < _MOST_WITH, torch.tensor(_FRACTION["most"]), fractions)
    wanted = (counts * fractions.to(counts.device)).round().long().clamp(min=1).minimum(counts)  # (B,)
    lots = torch.rand(patches.shape).to(mask.device).masked_fill(~patches, 2.0)
    ranks = lots.argsort(1).argsort(1)
    chosen = torch.cat([mask[:, :special], ranks < wanted.unsqueeze(1)], dim=1)
    order = (~chosen).long().argsort(dim=1, stable=True)[:, : int(chosen.sum(1).max())]
    return tokens.gather(1, order.unsqueeze(-1).expand(-1, -1, tokens.shape[-1])), chosen.gather(1, order)
