"""What the augmentation must know of a language model, found in its structure and not in a list of names.

The decoder layers are the one ModuleList with as many entries as the configuration counts hidden layers; a learned
position table is an embedding beside the word embeddings with one row per position. What cannot be served is refused
here.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from epalm.errors import UnsupportedModelError

_ATTENTION_LAYERS = {"full_attention", "sliding_attention", "chunked_attention"}
_IMPLEMENTATIONS = ("eager", "sdpa")
_MOST_OFFSET_ROWS = 8  # OPT keeps two rows more than positions; no table known keeps more than a handful


@dataclass(frozen=True)
class Anatomy:
    """The parts of one causal language model that the augmentation touches."""

    family: str
    """As transformers names it; a model of text and pictures is another family than its text part."""
    layers: tuple[nn.Module, ...]
    """The L decoder layers, first to last."""
    mask_index: int
    """Place of `attention_mask` among a layer's positional arguments."""
    width: int
    """D."""
    embedding_width: int
    """W."""
    vocabulary: int
    """Rows of the output embedding: how many logits there are."""
    position_table: nn.Embedding | None
    """Learned absolute positions, or None for rotary and ALiBi positions."""
    position_limit: int | None
    """The most tokens a learned table has positions for."""
    takes_position_ids: bool
    """Whether the model's forward accepts `position_ids`."""
    slides: bool
    """Whether some layers see only a sliding window or chunk of the past."""


def study(language_model: PreTrainedModel, decoder_layers: str | None = None) -> Anatomy:
    """Find the parts of `language_model`.

    Args:
        language_model: a Hugging Face causal language model; the `meta` device will do.
        decoder_layers: dotted path of the ModuleList that holds the decoder layers, where it cannot be found.

    Raises:
        UnsupportedModelError: the model is none that can be served; one line says why.
    """
    config = getattr(language_model, "config", None)
    name = getattr(config, "model_type", type(language_model).__name__)
    if config is None or not hasattr(language_model, "generate"):
        raise UnsupportedModelError(f"language model {name}: not a Hugging Face causal language model")
    if getattr(config, "is_encoder_decoder", False):
        raise UnsupportedModelError(f"language model {name}: encoder-decoder models are not served, only causal ones")
    text = config.get_text_config()
    _refuse_other_attention(text, name)
    layers = _find_layers(language_model, text, name, decoder_layers)
    words, head = language_model.get_input_embeddings(), language_model.get_output_embeddings()
    if words is None or head is None:
        raise UnsupportedModelError(f"language model {name}: it has no word embedding or no output embedding")
    table = _find_position_table(language_model, text, layers, words)
    return Anatomy(
        family=name,
        layers=layers,
        mask_index=_mask_index(layers[0], name),
        width=text.hidden_size,
        embedding_width=words.weight.shape[1],
        vocabulary=head.weight.shape[0],
        position_table=table,
        position_limit=None if table is None else text.max_position_embeddings,
        takes_position_ids="position_ids" in inspect.signature(language_model.forward).parameters,
        slides=_slides(text),
    )


def _refuse_other_attention(config: Any, name: str) -> None:
    """Refuse what has no causal attention mask that a slot could be opened in."""
    if getattr(config, "use_bidirectional_attention", False) or not getattr(config, "is_causal", True):
        raise UnsupportedModelError(f"language model {name}: its attention is not causal")
    unserved = sorted(set(getattr(config, "layer_types", None) or ()) - _ATTENTION_LAYERS)
    if unserved:
        raise UnsupportedModelError(
            f"language model {name}: layers of type {', '.join(unserved)} have no attention mask"
        )
    implementation = getattr(config, "_attn_implementation", None) or "eager"
    if implementation not in _IMPLEMENTATIONS:
        raise UnsupportedModelError(
            f"language model {name}: attention implementation '{implementation}' cannot show a slot to some layers "
            f"only; choose from {', '.join(_IMPLEMENTATIONS)}"
        )


def _find_layers(model: nn.Module, config: Any, name: str, path: str | None) -> tuple[nn.Module, ...]:
    """The decoder layers."""
    lists = {key: module for key, module in model.named_modules() if isinstance(module, nn.ModuleList) and len(module)}
    if path is not None:
        if path not in lists:
            raise UnsupportedModelError(f"language model {name}: no ModuleList at '{path}'; choose from {_all(lists)}")
        return tuple(lists[path])
    depth = config.num_hidden_layers
    found = [key for key, module in lists.items() if len(module) == depth]
    # Experts or heads inside a layer may happen to be as many as the layers are: only the outermost lists count.
    found = [key for key in found if not any(key.startswith(other + ".") for other in found)]
    if not found:
        raise UnsupportedModelError(f"language model {name}: no ModuleList of {depth} decoder layers in it")
    if len(found) > 1:
        raise UnsupportedModelError(
            f"language model {name}: {len(found)} lists have {depth} layers; give decoder_layers, one of {_all(found)}"
        )
    return tuple(lists[found[0]])


def _all(names: Any) -> str:
    return ", ".join(names) or "none"


def _mask_index(layer: nn.Module, name: str) -> int:
    """Place of the attention mask among the positional arguments of a decoder layer."""
    names = list(inspect.signature(layer.forward).parameters)
    if "attention_mask" not in names:
        raise UnsupportedModelError(
            f"language model {name}: its layers ({type(layer).__name__}) take no attention mask"
        )
    return names.index("attention_mask")


def _find_position_table(
    model: nn.Module, config: Any, layers: tuple[nn.Module, ...], words: nn.Module
) -> nn.Embedding | None:
    """The learned table of absolute positions, if the model has one."""
    limit = getattr(config, "max_position_embeddings", None)
    inside = {id(module) for layer in layers for module in layer.modules()}
    for module in model.modules():
        if not isinstance(module, nn.Embedding) or module is words or id(module) in inside or limit is None:
            continue
        if 0 <= module.num_embeddings - limit <= _MOST_OFFSET_ROWS:
            return module
    return None


def _slides(config: Any) -> bool:
    """Whether a cache built from `config` would forget the slot once the text outgrows a window."""
    types = getattr(config, "layer_types", None)
    if types:
        return set(types) != {"full_attention"}
    return any(getattr(config, name, None) is not None for name in ("sliding_window", "attention_chunk_size"))
