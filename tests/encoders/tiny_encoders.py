"""Tiny random encoders of six families, with what their own classes call the parts that are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

SIZE = 32
LEVELS = 5
WIDTH = 24
CONFIG = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": LEVELS,
    "num_attention_heads": 2,
    "image_size": SIZE,
    "patch_size": 8,
}
SQUARE = {"size": {"height": SIZE, "width": SIZE}}
SQUARE_CROPPED = {"size": {"height": SIZE + 8, "width": SIZE + 8}, "crop_size": {"height": SIZE, "width": SIZE}}
CROPPED = {"size": {"shortest_edge": SIZE + 4}, "crop_size": {"height": SIZE, "width": SIZE}}


@dataclass(frozen=True)
class Family:
    model: str
    config: str
    processor: str
    processing: dict[str, Any]
    norm: str
    settings: dict[str, Any]
    summary: str = "cls"


FAMILIES = {
    "vit": Family("ViTModel", "ViTConfig", "ViTImageProcessorPil", SQUARE, "layernorm", {}),
    "deit": Family("DeiTModel", "DeiTConfig", "DeiTImageProcessorPil", SQUARE_CROPPED, "layernorm", {}),
    "beit": Family(
        "BeitModel", "BeitConfig", "BeitImageProcessorPil", SQUARE, "layernorm", {"use_mean_pooling": False}
    ),
    "beit-mean": Family("BeitModel", "BeitConfig", "BeitImageProcessorPil", SQUARE, "pooler.layernorm", {}, "pooled"),
    "dinov2": Family("Dinov2Model", "Dinov2Config", "BitImageProcessorPil", CROPPED, "layernorm", {}),
    "clip": Family("CLIPVisionModel", "CLIPVisionConfig", "CLIPImageProcessorPil", CROPPED, "post_layernorm", {}),
    "siglip": Family(
        "SiglipVisionModel", "SiglipVisionConfig", "SiglipImageProcessorPil", SQUARE, "post_layernorm", {}, "mean"
    ),
}


def stir(model: torch.nn.Module) -> torch.nn.Module:
    """Move every weight off its start value: a fresh norm or CLS token is a neutral element and would prove nothing."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def build(name: str) -> torch.nn.Module:
    torch.manual_seed(sum(map(ord, name)))
    family = FAMILIES[name]
    config = getattr(transformers, family.config)(**CONFIG, **family.settings)
    return stir(getattr(transformers, family.model)(config))


def save(name: str, folder: Path) -> Path:
    """A directory as a hub checkpoint has it: config, weights, image processor."""
    build(name).save_pretrained(folder)
    save_processor(name, folder)
    return folder


def save_processor(name: str, folder: Path) -> None:
    family = FAMILIES[name]
    getattr(transformers, family.processor)(**family.processing).save_pretrained(folder)


def load_directly(name: str, folder: Path, attn: str) -> torch.nn.Module:
    """The family's own class, named here and not found out."""
    model_class = getattr(transformers, FAMILIES[name].model)
    return model_class.from_pretrained(folder, attn_implementation=attn, dtype=torch.float32).eval()


@torch.no_grad()
def direct_features(name: str, model: torch.nn.Module, pixels: torch.Tensor, levels: int) -> torch.Tensor:
    """What the definition says, from everything the model gives: (B, K, E)."""
    family = FAMILIES[name]
    norm = model.get_submodule(family.norm)
    states = model(pixels, output_hidden_states=True).hidden_states  # embeddings and every block: each (B, S, E)
    assert len(states) == LEVELS + 1
    summaries = {
        "cls": lambda state: norm(state)[:, 0],
        "mean": lambda state: norm(state).mean(dim=1),
        "pooled": lambda state: norm(state[:, 1:].mean(dim=1)),
    }
    return torch.stack([summaries[family.summary](state) for state in states[-levels:]], dim=1)


@torch.no_grad()
def own_summary(name: str, model: torch.nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """What the model itself ends in, (B, E)."""
    output = model(pixels)
    if name in ("clip", "beit-mean"):  # they norm the summary alone
        return output.pooler_output
    tokens = output.last_hidden_state
    return tokens.mean(dim=1) if name == "siglip" else tokens[:, 0]
