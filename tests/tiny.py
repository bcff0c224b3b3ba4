"""Tiny random backbones on disk, as a hub checkpoint lies there, and small sets of pictures: plumbing, no quality."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

POSITIONS = 64
"""Longest text that the tiny OPT has positions for."""
LAYERS = 3
SIDE = 16
COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220), "white": (250, 250, 250)}
_SIZES: dict[str, Any] = {
    "vocab_size": 260,
    "hidden_size": 24,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "pad_token_id": 256,
    "bos_token_id": 257,
    "eos_token_id": 257,
}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Every byte a token, and nothing it has not met."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: number for number, symbol in enumerate([*alphabet, "<pad>", "</s>"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="</s>", eos_token="</s>", pad_token="<pad>")


def save_language_model(folder: Path, family: str = "opt", seed: int = 0, **changes: Any) -> Path:
    """A tiny OPT (learned positions) or LLaMA (rotary ones) with its tokenizer."""
    torch.manual_seed(seed)
    if family == "opt":
        sizes = _SIZES | {"ffn_dim": 32, "word_embed_proj_dim": 24, "max_position_embeddings": POSITIONS}
        config: Any = OPTConfig(**sizes | {"dropout": 0.0} | changes)
    else:
        config = LlamaConfig(**_SIZES | {"intermediate_size": 32, "max_position_embeddings": POSITIONS} | changes)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)  # fresh weights are so small that nothing would depend on anything
        if family == "llama":
            for embedding in (model.get_input_embeddings(), model.get_output_embeddings()):
                embedding.weight.mul_(8)  # logits far enough apart for one answer to become certain
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def save_steep_model(folder: Path, slope: float) -> Path:
    """An OPT whose gradients are large: its head multiplies them by `slope`, small hidden states by 300."""
    save_language_model(folder, tie_word_embeddings=False)
    weights = load_file(folder / "model.safetensors")
    for name, weight in weights.items():
        if name == "lm_head.weight":
            weight.mul_(slope)
        elif any(part in name for part in ("embed_", "out_proj", "fc2")):
            weight.mul_(1e-3)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def save_encoder(folder: Path, seed: int = 0, pooler: bool = False) -> Path:
    """A tiny ViT with its image processor."""
    torch.manual_seed(seed)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, image_size=SIDE, patch_size=8
    )
    model = ViTModel(config, add_pooling_layer=pooler)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


def save_pictures(folder: Path) -> Path:
    """One plain picture of each colour."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, colour in COLOURS.items():
        Image.new("RGB", (20, 12), colour).save(folder / f"{name}.png")
    return folder


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    """JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def questions() -> list[dict[str, Any]]:
    """Which colour each picture has; the answer is its first letter, one token."""
    return [{"image": f"pictures/{name}.png", "question": "which?", "answer": name[0]} for name in COLOURS]


def captions() -> list[dict[str, Any]]:
    """Two captions for each picture."""
    return [{"image": f"pictures/{name}.png", "captions": [name, f"all {name}"]} for name in COLOURS]


_PLAIN_TRAINING = {"warmup": 0.05, "weight_decay": 0.02, "feature_dropout": 0.0, "connector_init_scale": 1.0}


def recipe_values(backbones: Path, language_model: str = "opt", **training: Any) -> dict[str, Any]:
    """A run of a few steps."""
    return {
        "model": {
            "language_model": str(backbones / language_model),
            "encoders": {"image": str(backbones / "vit")},
            "device": "cpu",
            "torch_dtype": "float32",
        },
        "adapter": {"start": 0, "end": 2},
        "training": {"steps": 4, "batch_size": 2, "learning_rate": 0.02, **_PLAIN_TRAINING} | training,
        "generation": {"num_beams": 1, "max_new_tokens": 5},
    }


def learning_recipe(backbones: Path) -> dict[str, Any]:
    """A run after which the four colours are surely told apart."""
    values = recipe_values(backbones, "llama", steps=100, batch_size=4, learning_rate=0.05)
    return values | {"adapter": {"preset": "epalm_ada", "bottleneck": 2, "start": 0, "end": 2}}
