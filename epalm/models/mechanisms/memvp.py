"""MemVP (Jie et al., 2024): the encoder's tokens as further memory of every feed-forward block, and no tokens anywhere.

Of the projected tokens `f_i = Linear(E -> D)(v_i)` and of trained positions p_i and q_i, which all layers share, a
block that takes x gives `sum_i act(s x (f_i + p_i)) s (f_i + q_i)` on top of what it gives itself, with s = 0.01 and
the block's own activation. Where a block is gated, that activation stands on the side of the keys alone.

Shapes: B batch, K levels, N encoder tokens, E encoder width, T tokens of a call, D language-model width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from epalm.errors import ConfigError, UnsupportedModelError
from epalm.models.anatomy import Anatomy
from epalm.models.injection import injected, repeated
from epalm.models.layout import Layout
from epalm.models.mechanisms.base import MASK, FeatureShape, Mechanism, Perceived
from epalm.models.mechanisms.registry import register_mechanism
from epalm.models.window import Window
from epalm.settings import AdapterConfig

_SCALE = 0.01
_BLOCKS = ("mlp", "feed_forward", "ffn")
_UNNAMED = {"bloom": "gelu_new"}
"""Activations of families whose configuration does not name them."""
_FIRST, _LAST = ("fc1", "fc_in"), ("fc2", "fc_out")


@register_mechanism("memvp")
class MemVP(Mechanism):
    """As many memory slots a block as the encoder has tokens."""

    reads: ClassVar[Literal["summaries", "tokens"]] = "tokens"

    def __init__(
        self, config: AdapterConfig, anatomy: Anatomy, window: Window, shapes: Mapping[str, FeatureShape]
    ) -> None:
        super().__init__(config, anatomy, window, shapes)
        self.project = nn.ModuleDict(
            {name: nn.Linear(shape.width, anatomy.width) for name, shape in self.shapes.items()}
        )
        self.key_positions, self.value_positions = (
            nn.ParameterDict(
                {name: torch.zeros(_tokens_of(name, shape), anatomy.width) for name, shape in self.shapes.items()}
            )
            for _ in range(2)
        )
        self._sites = [_blocks_of(layer, anatomy) for layer in anatomy.layers]
        self._activation: Any = ACT2FN[_activation_of(anatomy)]

    def forward(self, features: Mapping[str, Any]) -> Perceived:
        """(B, K, N, E) -> keys and values of all modalities, (B, N, D), and their mask (B, N)."""
        keys, values, masks = [], [], []
        for name, project in self.project.items():
            if name in features:
                tokens = features[name].to(project.weight)
                projected = project(tokens.values[:, -1])
                count = projected.shape[1]
                if count > len(self.key_positions[name]):
                    raise ConfigError(
                        f"{name} features: memvp has positions for {len(self.key_positions[name])} tokens, got {count}"
                    )
                keys.append(projected + self.key_positions[name][:count])
                values.append(projected + self.value_positions[name][:count])
                masks.append(tokens.mask)
        if not keys:
            return {}
        return {"keys": torch.cat(keys, 1), "values": torch.cat(values, 1), f"keys{MASK}": torch.cat(masks, 1)}

    @contextmanager
    def entered(self, language_model: nn.Module, layout: Layout, perceived: Perceived) -> Iterator[None]:
        """See `Mechanism`."""
        with ExitStack() as hooks:
            hooks.enter_context(injected(language_model, self.anatomy, 0, (), silent=layout.silent))
            for first, last in self._sites if perceived else ():
                memory = _Memory(self, perceived)
                hooks.callback(first.register_forward_pre_hook(memory.note).remove)
                hooks.callback(last.register_forward_hook(memory.add).remove)
            yield

    def recalled(self, states: Tensor, perceived: Perceived) -> Tensor:
        """What the memory gives for states (..., D) of all rows, one row after the other."""
        keys, values, mask = perceived["keys"], perceived["values"], perceived[f"keys{MASK}"]
        rows = states.reshape(len(keys), -1, states.shape[-1]) if states.ndim == 2 else states
        keys, values, mask = (repeated(each, rows).to(rows.device) for each in (keys, values, mask))
        scores = self._activation(_SCALE * rows.to(keys) @ keys.transpose(1, 2))  # (B, T, N)
        scores = scores.masked_fill(~mask[:, None], 0)
        recalled: Tensor = scores @ (_SCALE * values)
        return recalled.reshape(states.shape).to(states)


class _Memory:
    """One block's: what it takes, and what is added to what it gives."""

    def __init__(self, mechanism: MemVP, perceived: Perceived) -> None:
        self.mechanism, self.perceived = mechanism, perceived
        self.states: Tensor | None = None

    def note(self, block: nn.Module, args: tuple[Any, ...]) -> None:
        self.states = args[0]

    def add(self, block: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        assert self.states is not None
        recalled = self.mechanism.recalled(self.states, self.perceived)
        self.states = None
        return (output[0] + recalled, *output[1:]) if isinstance(output, tuple) else output + recalled


def _tokens_of(name: str, shape: FeatureShape) -> int:
    if shape.tokens is None:
        raise ConfigError(f"memvp: it is not known how many tokens the {name} features have; name their encoder")
    return shape.tokens


def _blocks_of(layer: nn.Module, anatomy: Anatomy) -> tuple[nn.Module, nn.Module]:
    """The modules that take and that give what a layer's feed-forward block does."""
    children = dict(layer.named_children())
    for name in _BLOCKS:
        if name in children:
            return children[name], children[name]
    first, last = (next((children[name] for name in names if name in children), None) for names in (_FIRST, _LAST))
    if first is None or last is None:
        raise UnsupportedModelError(
            f"language model {anatomy.family}: memvp finds no feed-forward block in its layers ({type(layer).__name__})"
        )
    return first, last


def _activation_of(anatomy: Anatomy) -> str:
    activation = anatomy.activation or _UNNAMED.get(anatomy.family)
    if activation is None:
        raise UnsupportedModelError(f"language model {anatomy.family}: its configuration names no activation for memvp")
    return activation
