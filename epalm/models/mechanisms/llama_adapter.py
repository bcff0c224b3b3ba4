"""LLaMA-Adapter (Zhang et al., 2024): trained keys and values in most layers, attended to with a softmax of their own.

In the last 30 of 32 layers (the same share elsewhere) there are 10 trained vectors a layer, to each of which the
projected global feature is added. They stand in slots that nothing sees; the layer makes keys and values of them as of
any state, the text attends to these alone, and the result is added times tanh(g) to what it attends to otherwise. There
is one gate g a head and layer, and it starts closed, at 0.

Shapes: B batch, K levels, E encoder width, S slots, D language-model width, N tokens of a call, H heads, C width of
a head.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from epalm.errors import UnsupportedModelError
from epalm.models.anatomy import Anatomy, text_config
from epalm.models.injection import injected
from epalm.models.layout import Layout
from epalm.models.mechanisms.base import FeatureShape, Mechanism, Perceived
from epalm.models.mechanisms.registry import register_mechanism
from epalm.models.window import Window
from epalm.settings import AdapterConfig

_VECTORS = 10
_LEFT_OUT, _OF = 2, 32
_NAME = "epalm_prefix_"
_EAGER, _SDPA = f"{_NAME}eager", f"{_NAME}sdpa"


@register_mechanism("llama_adapter")
class LlamaAdapter(Mechanism):
    """10 slots, whatever is perceived."""

    reads: ClassVar[Literal["summaries", "tokens"]] = "summaries"
    has_window: ClassVar[bool] = True

    def __init__(
        self, config: AdapterConfig, anatomy: Anatomy, window: Window, shapes: Mapping[str, FeatureShape]
    ) -> None:
        super().__init__(config, anatomy, window, shapes)
        if anatomy.heads is None:
            raise UnsupportedModelError(f"language model {anatomy.family}: llama_adapter cannot tell its heads")
        self.project = nn.ModuleDict(
            {name: nn.Linear(shape.width, anatomy.width) for name, shape in self.shapes.items()}
        )
        layers = window.end - window.start
        self.vectors = nn.Parameter(torch.randn(layers, _VECTORS, anatomy.width) * 0.02)
        self.gates = nn.Parameter(torch.zeros(layers, anatomy.heads))
        self._attention = [_attention_of(layer, anatomy) for layer in anatomy.layers]

    @classmethod
    def window_of(cls, config: AdapterConfig, depth: int) -> Window:
        """See `Mechanism`."""
        start = round(_LEFT_OUT * depth / _OF) if config.start is None else config.start
        end = depth if config.end is None else config.end
        return Window.resolve(config.model_copy(update={"start": min(start, end - 1), "end": end}), depth)

    def forward(self, features: Mapping[str, Any]) -> Perceived:
        """(B, K, E) -> (B, D): the last levels, projected, of all modalities together."""
        projected = [
            project(features[name][:, -1].to(project.weight, non_blocking=True))
            for name, project in self.project.items()
            if name in features
        ]
        return {"global": torch.stack(projected).sum(0)} if projected else {}

    def slots(self, perceived: Perceived) -> int:
        """See `Mechanism`."""
        return _VECTORS if perceived else 0

    @contextmanager
    def entered(self, language_model: nn.Module, layout: Layout, perceived: Perceived) -> Iterator[None]:
        """See `Mechanism`."""
        start, end = self.window.start, self.window.end
        states = [perceived["global"].unsqueeze(1) + vectors for vectors in self.vectors] if perceived else ()
        with ExitStack() as contexts:
            if perceived:
                gates = dict(zip(self._attention[start:end], self.gates.tanh(), strict=True))
                contexts.enter_context(_attending_apart(language_model, gates))
            # Nothing sees the slots in the ordinary softmax: the window of what does is empty.
            contexts.enter_context(
                injected(language_model, self.anatomy, start, states, silent=layout.silent, end=start)
            )
            yield


_GATES: WeakKeyDictionary[nn.Module, Tensor] = WeakKeyDictionary()
"""Of attention modules that are at work, the gates (H,)."""


@contextmanager
def _attending_apart(language_model: Any, gates: Mapping[nn.Module, Tensor]) -> Iterator[None]:
    """Inside this context these modules attend to their slots apart; to hold the model's lock is the caller's part."""
    config = text_config(language_model.config)
    implementation = config._attn_implementation
    config._attn_implementation = _EAGER if implementation in (None, "eager") else f"{_NAME}{implementation}"
    _GATES.update(gates)
    try:
        yield
    finally:
        config._attn_implementation = implementation
        for module in gates:
            _GATES.pop(module, None)


def _apart(ordinary: Callable[[nn.Module], Callable[..., Any]]) -> Callable[..., Any]:
    def attend(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **others: Any
    ) -> Any:
        """Input shapes: query (B, H, N, C), key and value (B, H or fewer, keys, C)."""
        output, weights = ordinary(module)(module, query, key, value, attention_mask, **others)
        gates = _GATES.get(module)
        if gates is None:
            return output, weights
        shared = query.shape[1] // key.shape[1]
        keys, values = (each[:, :, :_VECTORS].repeat_interleave(shared, dim=1) for each in (key, value))
        scaling = others.get("scaling") or query.shape[-1] ** -0.5
        scores = (query @ keys.transpose(2, 3) * scaling).softmax(dim=-1, dtype=torch.float32).to(query)
        apart = (scores @ values).transpose(1, 2)  # (B, N, H, C)
        return output + (gates[:, None].to(apart.device) * apart).to(output), weights

    return attend


def _eager_of(module: nn.Module) -> Callable[..., Any]:
    """The eager attention of the file that a module's class is in."""
    function: Callable[..., Any] = sys.modules[type(module).__module__].eager_attention_forward
    return function


ALL_ATTENTION_FUNCTIONS.register(_EAGER, _apart(_eager_of))
ALL_ATTENTION_FUNCTIONS.register(_SDPA, _apart(lambda module: ALL_ATTENTION_FUNCTIONS["sdpa"]))
ALL_MASK_ATTENTION_FUNCTIONS.register(_EAGER, ALL_MASK_ATTENTION_FUNCTIONS["eager"])
ALL_MASK_ATTENTION_FUNCTIONS.register(_SDPA, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])


def _attention_of(layer: nn.Module, anatomy: Anatomy) -> nn.Module:
    """The attention of a layer, whose file must leave to transformers how it attends."""
    found = [
        module
        for name, module in layer.named_children()
        if "attn" in name or "attention" in name
        if hasattr(sys.modules[type(module).__module__], "eager_attention_forward") and hasattr(module, "config")
    ]
    if len(found) != 1:
        raise UnsupportedModelError(
            f"language model {anatomy.family}: llama_adapter needs attention that transformers' attention interface "
            "serves; take a family that has it, such as OPT, Llama or Qwen3"
        )
    return found[0]
