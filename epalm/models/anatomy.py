"""What the augmentation must know of a language model, found in its structure and not in a list of names.

The decoder layers are the one ModuleList of the text model with as many entries as the configuration counts hidden
layers; a learned position table is an embedding beside the word embeddings, as wide as what it is added to, with one
row per position. What cannot be served is refused here, and the meta device is enough to tell.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from epalm.errors import UnsupportedModelError

ALTERNATIVE = "take a causal language model with attention in every layer, such as OPT, Llama, Qwen3 or Gemma 3"
"""What a message offers instead of a language model that cannot be served."""
_ATTENTION_LAYERS = {"full_attention", "sliding_attention", "chunked_attention"}
_IMPLEMENTATIONS = ("eager", "sdpa")
_ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function", "activation")
MOST_OFFSET_ROWS = 8  # OPT keeps two rows more than positions; no table known keeps more than a handful


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
    heads: int | None = None
    """Of the attention's queries."""
    activation: str | None = None
    """Of the feed-forward blocks, as transformers names it."""


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
    text = text_config(config)
    layers = _find_layers(language_model, text, name, decoder_layers)
    words, head = language_model.get_input_embeddings(), language_model.get_output_embeddings()
    if words is None or head is None:
        raise UnsupportedModelError(
            f"language model {name}: it has no word embedding or no output embedding; {ALTERNATIVE}"
        )
    width = _number(text, "hidden_size", name)
    table = _find_position_table(_text_model(language_model), text, layers, words, (width, words.weight.shape[1]))
    return Anatomy(
        family=name,
        layers=layers,
        mask_index=_mask_index(layers[0], name),
        width=width,
        embedding_width=words.weight.shape[1],
        vocabulary=head.weight.shape[0],
        position_table=table,
        position_limit=None if table is None else text.max_position_embeddings,
        takes_position_ids="position_ids" in inspect.signature(language_model.forward).parameters,
        slides=_slides(text),
        heads=getattr(text, "num_attention_heads", None),
        activation=next((name for field in _ACTIVATIONS if isinstance(name := getattr(text, field, None), str)), None),
    )


def text_config(config: Any) -> Any:
    """What `config` says of the language model in it.

    Raises:
        UnsupportedModelError: that is enough to know that it cannot be served.
    """
    name = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        raise UnsupportedModelError(f"language model {name}: encoder-decoder models are not served; {ALTERNATIVE}")
    text = config.get_text_config(decoder=True)
    _refuse_other_attention(text, name)
    _refuse_shared_states(text, name)
    return text


def _refuse_other_attention(config: Any, name: str) -> None:
    """Refuse what has no causal attention mask that a slot could be opened in."""
    # Gemma 4 has "vision" for attention that is bidirectional among the tokens of a picture alone.
    is_bidirectional = getattr(config, "use_bidirectional_attention", None) not in (None, False, "vision")
    if is_bidirectional or not getattr(config, "is_causal", True):
        raise UnsupportedModelError(f"language model {name}: its attention is not causal; {ALTERNATIVE}")
    unserved = sorted(set(getattr(config, "layer_types", None) or ()) - _ATTENTION_LAYERS)
    if unserved:
        raise UnsupportedModelError(
            f"language model {name}: its layers of type {', '.join(unserved)} are not attention over all tokens, "
            f"which perception needs; {ALTERNATIVE}"
        )
    implementation = getattr(config, "_attn_implementation", None) or "eager"
    if implementation not in _IMPLEMENTATIONS:
        raise UnsupportedModelError(
            f"language model {name}: attn_implementation '{implementation}' cannot show a slot to some layers "
            f"only; choose from {', '.join(_IMPLEMENTATIONS)}"
        )


def _refuse_shared_states(config: Any, name: str) -> None:
    """Refuse layers that get something else than what the layer below gives (Gemma 3n, the small models of Gemma 4)."""
    for field, does in (
        ("num_kv_shared_layers", "its last {} layers take keys and values from layers below, without their perception"),
        ("hidden_size_per_layer_input", "it embeds every token anew for each layer, and a slot is no token"),
    ):
        if value := getattr(config, field, None):
            raise UnsupportedModelError(
                f"language model {name}: {does.format(value)}; take one whose {field} is 0, such as Gemma 3"
            )


def _text_model(model: PreTrainedModel) -> nn.Module:
    """The part with the word embedding and the decoder layers; a model of text and pictures has others beside it."""
    decoder = model.get_decoder()
    # An output embedding may have that name (ModernBERT).
    return decoder if model.get_input_embeddings() in set(decoder.modules()) else model


def _find_layers(model: PreTrainedModel, config: Any, name: str, path: str | None) -> tuple[nn.Module, ...]:
    """The decoder layers."""
    lists = {key: module for key, module in model.named_modules() if isinstance(module, nn.ModuleList) and len(module)}
    # Experts or heads inside a layer may happen to be as many as the layers are: only the outermost lists count.
    outermost = [key for key in lists if not any(key.startswith(other + ".") for other in lists)]
    if path is not None:
        if path not in lists:
            raise UnsupportedModelError(
                f"language model {name}: no ModuleList at '{path}'; choose from {_all(outermost)}"
            )
        layers = tuple(lists[path])
    else:
        depth, text_model = _number(config, "num_hidden_layers", name), set(_text_model(model).modules())
        found = [key for key in outermost if len(lists[key]) == depth and lists[key] in text_model]
        if not found:
            raise UnsupportedModelError(
                f"language model {name}: no ModuleList of {depth} decoder layers in it; give decoder_layers, one of "
                f"{_all(outermost)}"
            )
        if len(found) > 1:
            raise UnsupportedModelError(
                f"language model {name}: {len(found)} lists have {depth} layers; give decoder_layers, one of "
                f"{_all(found)}"
            )
        layers = tuple(lists[found[0]])
    if len(set(layers)) < len(layers):
        raise UnsupportedModelError(
            f"language model {name}: runs one layer several times, and each should get its own perception; "
            f"{ALTERNATIVE}"
        )
    return layers


def _all(names: Any) -> str:
    return ", ".join(names) or "none"


def _number(config: Any, field: str, name: str) -> int:
    """What the configuration says of the decoder."""
    value = getattr(config, field, None)
    if not isinstance(value, int):
        raise UnsupportedModelError(f"language model {name}: its configuration has no {field}; {ALTERNATIVE}")
    return value


def _mask_index(layer: nn.Module, name: str) -> int:
    """Place of the attention mask among the positional arguments of a decoder layer."""
    names = list(inspect.signature(layer.forward).parameters)
    if "attention_mask" not in names:
        raise UnsupportedModelError(
            f"language model {name}: its layers ({type(layer).__name__}) take no attention mask that a slot could be "
            f"opened in; {ALTERNATIVE}"
        )
    return names.index("attention_mask")


def _find_position_table(
    text_model: nn.Module, config: Any, layers: tuple[nn.Module, ...], words: nn.Module, widths: tuple[int, ...]
) -> nn.Embedding | None:
    """The learned table of absolute positions, if the model has one."""
    limit = getattr(config, "max_position_embeddings", None)
    inside = {id(module) for layer in layers for module in layer.modules()}
    for module in text_model.modules():
        if not isinstance(module, nn.Embedding) or module is words or id(module) in inside or limit is None:
            continue
        # A table of something else (the tokens once more, for the layers) may have as many rows.
        is_added = module.embedding_dim in widths
        if is_added and 0 <= module.num_embeddings - limit <= MOST_OFFSET_ROWS:
            return module
    return None


def _slides(config: Any) -> bool:
    """Whether a cache built from `config` would forget the slot once the text outgrows a window."""
    types = getattr(config, "layer_types", None)
    if types:
        return set(types) != {"full_attention"}
    return any(getattr(config, name, None) is not None for name in ("sliding_window", "attention_chunk_size"))
