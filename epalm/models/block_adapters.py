"""Bottleneck adapters in every decoder block (`epalm_ada`; Houlsby et al., 2019, as used in eP-ALM's ablations).

After the attention's and/or the MLP's output projection, before the block's own residual: `h + up(relu(down(h)))`, D
-> D/f -> D. The projections are found by where they stand and what they are called, and must be unambiguous: a block
that hides them (a mixture of experts, say) is refused.

Shapes: h (B, N, D) -> (B, N, D).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from epalm.errors import ConfigError, UnsupportedModelError
from epalm.models.anatomy import Anatomy

_OUTPUTS = {
    "attention": ("o_proj", "out_proj", "c_proj", "dense", "wo"),
    "mlp": ("down_proj", "fc2", "c_proj", "dense_4h_to_h", "fc_out", "w2"),
}
_SCALE = 1e-3


class Bottleneck(nn.Module):
    """`h + up(relu(down(h)))`; weights start at N(0, 1e-3) clipped at two deviations, so the block starts unchanged."""

    def __init__(self, width: int, factor: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, width // factor, dtype=torch.float32)
        self.up = nn.Linear(width // factor, width, dtype=torch.float32)
        for linear in (self.down, self.up):
            nn.init.trunc_normal_(linear.weight, std=_SCALE, a=-2 * _SCALE, b=2 * _SCALE)
            nn.init.zeros_(linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Input and output shape: (B, N, D), in the language model's dtype; the bottleneck itself works in float32."""
        change = self.up(functional.relu(self.down(hidden.to(self.down.weight.dtype))))
        return hidden + change.to(hidden.dtype)


class BlockAdapters(nn.ModuleList):
    """For every decoder block a ModuleDict of its bottlenecks: `attention`, `mlp` or both.

    Raises:
        UnsupportedModelError: a block's output projections are not where they can be told apart.
        ConfigError: the bottleneck would have no width.
    """

    def __init__(self, anatomy: Anatomy, places: str, factor: int) -> None:
        if anatomy.width < factor:
            raise ConfigError(
                f"adapter.bottleneck: {factor} leaves nothing of the language model's width {anatomy.width}"
            )
        chosen = ("attention", "mlp") if places == "both" else (places,)
        super().__init__(
            nn.ModuleDict({place: Bottleneck(anatomy.width, factor) for place in chosen}) for _ in anatomy.layers
        )
        # Left out of the module tree: what is reached through it would count as trained here.
        self._sites: tuple[dict[str, nn.Module], ...] = tuple(
            {place: _output_projection(layer, place, anatomy) for place in chosen} for layer in anatomy.layers
        )

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Inside this context the decoder blocks work with the adapters; outside they are themselves."""
        with ExitStack() as hooks:
            for adapters, sites in zip(self, self._sites, strict=True):
                for place, site in sites.items():
                    hooks.callback(
                        site.register_forward_hook(partial(_adapt, cast(nn.ModuleDict, adapters)[place])).remove
                    )
            yield


def _adapt(adapter: nn.Module, site: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    return adapter(output)


def _output_projection(layer: nn.Module, place: str, anatomy: Anatomy) -> nn.Module:
    """The one module in `layer` that projects the attention's or the MLP's result back to width D."""
    found = []
    for name, module in layer.named_modules():
        *parents, last = name.split(".")
        in_attention = any("attn" in parent or "attention" in parent for parent in parents)
        right_place = in_attention == (place == "attention")
        if right_place and last in _OUTPUTS[place] and hasattr(module, "weight"):
            found.append(module)
    if len(found) != 1:
        raise UnsupportedModelError(
            f"language model {anatomy.family}: block adapters need one {place} output projection in each block "
            f"({type(layer).__name__}), found {len(found)}; set adapter.block_adapters to none"
        )
    return found[0]
