"""The shapes of published backbones, and backbones of those shapes with random weights, which changes no speed."""

from __future__ import annotations

from typing import Any

import torch
from machine import DEVICE
from transformers import OPTConfig, OPTForCausalLM, ViTConfig, ViTImageProcessorPil, ViTModel

from epalm.encoders import load_encoder
from epalm.models.precision import best_attention

LANGUAGE_MODELS: dict[str, dict[str, Any]] = {
    "opt-125m": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "ffn_dim": 3072},
    "opt-350m": {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "ffn_dim": 4096,
        "word_embed_proj_dim": 512, "do_layer_norm_before": False,
    },
    "opt-1.3b": {"hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 32, "ffn_dim": 8192},
    "opt-2.7b": {"hidden_size": 2560, "num_hidden_layers": 32, "num_attention_heads": 32, "ffn_dim": 10240},
    "opt-6.7b": {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "ffn_dim": 16384},
}  # fmt: skip
ENCODERS: dict[str, dict[str, Any]] = {
    "vit-b": {},
    "vit-l": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
}


def language_model(shape: str, dtype: torch.dtype, drawn_in: torch.dtype | None = None) -> Any:
    """An OPT on the best device there is, held as a recipe holds it.

    Args:
        shape: a key of `LANGUAGE_MODELS`.
        dtype: of its weights.
        drawn_in: dtype in which the weights are drawn; unset: `dtype`, so that they are never there in float32.
    """
    torch.manual_seed(0)
    torch.set_default_dtype(drawn_in or dtype)
    with torch.device(DEVICE):
        lm = OPTForCausalLM(OPTConfig(**LANGUAGE_MODELS[shape], dropout=0.0))
    torch.set_default_dtype(torch.float32)
    lm = lm.to(dtype)
    lm.set_attn_implementation(best_attention(dtype, DEVICE) or "sdpa")
    return lm


def encoder(shape: str) -> Any:
    """A ViT on the best device there is, in float32."""
    torch.manual_seed(0)
    vit = ViTModel(ViTConfig(**ENCODERS[shape]), add_pooling_layer=False).to(DEVICE)
    return load_encoder(vit, processor=ViTImageProcessorPil())


def layers_in_bytes(shape: str) -> int:
    """Memory of the decoder layers in float32: 12 D^2 parameters a layer."""
    sizes = LANGUAGE_MODELS[shape]
    return 4 * 12 * int(sizes["num_hidden_layers"]) * int(sizes["hidden_size"]) ** 2
