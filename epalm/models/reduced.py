"""A small copy of a language model, made from its configuration alone: what it does can be tried before it is loaded.

It has a few layers, at least one of every type, few heads as wide as the model's own, few tokens, and random weights.
Widths that depend on each other cannot be known for every family: where no copy can be made that runs, there is none,
and none of a model of text and pictures.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

LAYERS = 4
_VOCABULARY = 128
_WINDOW = 3
"""Tokens that a sliding window shows, so that even a short text is longer."""
_MOST_PARAMETERS = 50_000_000
_UPPER_LIMITS = {
    "vocab_size": _VOCABULARY,
    "sliding_window": _WINDOW,
    "attention_chunk_size": _WINDOW,
    "ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "n_inner": 64,
    "intermediate_size": 64,
    "ffn_hidden_size": 64,
    "moe_intermediate_size": 64,
    "shared_expert_intermediate_size": 64,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_k": 2,
}


def reduced_copy(config: Any) -> PreTrainedModel | None:
    """A small model like the one that `config` describes, or None where none can be made that runs."""
    try:
        smaller = _reduced(config)
        # Neither the user's seed nor the device on which models are made shall matter.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            with torch.device("meta"):
                model = _new(smaller)
            if sum(parameter.numel() for parameter in model.parameters()) > _MOST_PARAMETERS:
                return None
            with torch.device("cpu"):
                model = _new(smaller).eval().requires_grad_(False)
                model(input_ids=torch.arange(1, 1 + _WINDOW).unsqueeze(0), use_cache=False)
    except Exception:  # whatever a foreign configuration makes of other numbers, it is not the model's fault
        return None
    return model


def _new(config: Any) -> PreTrainedModel:
    attention = getattr(config, "_attn_implementation", None)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=torch.float32)


def _reduced(config: Any) -> Any:
    config = copy.deepcopy(config)
    if config.get_text_config(decoder=True) is not config:
        raise ValueError("made of several configurations, whose token ids and widths depend on each other")
    depth, heads, width = config.num_hidden_layers, config.num_attention_heads, config.hidden_size
    kept = _kept_layers(depth, getattr(config, "layer_types", None))
    fewer = next(number for number in range(2, heads + 1) if heads % number == 0 and width * number // heads % 16 == 0)
    for name, value in vars(config).copy().items():
        if isinstance(value, list) and len(value) == depth:
            setattr(config, name, [value[index] for index in kept])
        elif isinstance(value, int) and not isinstance(value, bool):
            if name.endswith("_token_id"):
                setattr(config, name, value % _VOCABULARY)
            elif name in _UPPER_LIMITS:
                setattr(config, name, min(value, _UPPER_LIMITS[name]))
    config.num_hidden_layers, config.num_attention_heads = len(kept), fewer
    config.hidden_size = width * fewer // heads
    if getattr(config, "num_key_value_heads", None):
        config.num_key_value_heads = max(1, config.num_key_value_heads * fewer // heads)
    return config


def _kept_layers(depth: int, types: list[str] | None) -> list[int]:
    """Which layers there are in the copy: the first of every type, and then the last ones."""
    first = sorted({types.index(each) for each in types})[:LAYERS] if types else []
    others = [index for index in reversed(range(depth)) if index not in first]
    return sorted(first + others[: LAYERS - len(first)])
