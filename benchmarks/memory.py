"""How much memory the frozen backbones take that docs/real.md names: parameters times bytes, written into that page.

python benchmarks/memory.py

Parameters are counted on models without weights, built of the sizes that the hub's `config.json` tells; nothing is
downloaded. Where no configuration stands here the number is the model card's, and the table says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from readme import fill
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from epalm.models.anatomy import study

PAGE = Path("docs/real.md")


@dataclass(frozen=True)
class Backbone:
    """A model of the hub."""

    name: str
    kind: str
    """`language model`, or what an encoder perceives."""
    model_type: str = ""
    """In transformers; empty: `parameters` are the model card's."""
    sizes: dict[str, Any] = field(default_factory=dict)
    """What its configuration has otherwise than the type's defaults, as far as parameters depend on it."""
    parameters: float = 0


def _llama(width: int, layers: int, heads: int, key_heads: int, feed_forward: int) -> dict[str, Any]:
    return {
        "vocab_size": 49152, "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": key_heads, "intermediate_size": feed_forward, "tie_word_embeddings": True,
    }  # fmt: skip


def _qwen(width: int, layers: int, heads: int, feed_forward: int, *, tied: bool) -> dict[str, Any]:
    return {
        "vocab_size": 151936, "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": feed_forward, "tie_word_embeddings": tied,
    }  # fmt: skip


def _gemma(width: int, layers: int, heads: int, key_heads: int, feed_forward: int) -> dict[str, Any]:
    return {
        "vocab_size": 262144, "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": key_heads, "head_dim": 256, "intermediate_size": feed_forward,
    }  # fmt: skip


def _whisper(width: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "d_model": width, "encoder_layers": layers, "decoder_layers": 1, "encoder_attention_heads": heads,
        "decoder_attention_heads": heads, "encoder_ffn_dim": 4 * width, "decoder_ffn_dim": 4,
    }  # fmt: skip


def _dinov2(width: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, "image_size": 518,
        "patch_size": 14,
    }  # fmt: skip


BACKBONES = (
    Backbone("HuggingFaceTB/SmolLM2-135M-Instruct", "language model", "llama", _llama(576, 30, 9, 3, 1536)),
    Backbone("HuggingFaceTB/SmolLM2-360M-Instruct", "language model", "llama", _llama(960, 32, 15, 5, 2560)),
    Backbone("HuggingFaceTB/SmolLM2-1.7B-Instruct", "language model", "llama", _llama(2048, 24, 32, 32, 8192)),
    Backbone("Qwen/Qwen3-0.6B", "language model", "qwen3", _qwen(1024, 28, 16, 3072, tied=True)),
    Backbone("Qwen/Qwen3-1.7B", "language model", "qwen3", _qwen(2048, 28, 16, 6144, tied=True)),
    Backbone("Qwen/Qwen3-4B-Instruct-2507", "language model", "qwen3", _qwen(2560, 36, 32, 9728, tied=True)),
    Backbone("Qwen/Qwen3-8B", "language model", "qwen3", _qwen(4096, 36, 32, 12288, tied=False)),
    Backbone("google/gemma-3-270m-it", "language model", "gemma3_text", _gemma(640, 18, 4, 1, 2048)),
    Backbone("google/gemma-3-1b-it", "language model", "gemma3_text", _gemma(1152, 26, 4, 1, 6912)),
    Backbone("google/gemma-4-31B-it", "language model", parameters=31e9),
    Backbone("facebook/dinov2-small", "pictures", "dinov2", _dinov2(384, 12, 6)),
    Backbone("facebook/dinov2-base", "pictures", "dinov2", _dinov2(768, 12, 12)),
    Backbone("google/siglip2-base-patch16-224", "pictures", "siglip_vision_model"),
    Backbone("openai/whisper-tiny.en", "speech and sounds", "whisper", _whisper(384, 4, 6)),
    Backbone("openai/whisper-base", "speech and sounds", "whisper", _whisper(512, 6, 8)),
    Backbone("openai/whisper-small", "speech and sounds", "whisper", _whisper(768, 12, 12)),
    Backbone("MIT/ast-finetuned-audioset-10-10-0.4593", "sounds", "audio-spectrogram-transformer"),
)


def weightless(backbone: Backbone) -> nn.Module:
    """What of a model is loaded, on no device: of Whisper the encoder, of SigLIP 2 the tower that sees."""
    config = AutoConfig.for_model(backbone.model_type, **backbone.sizes)
    with torch.device("meta"):
        if backbone.kind == "language model":
            model: nn.Module = AutoModelForCausalLM.from_config(config)
            return model
        model = AutoModel.from_config(config)
    return model.get_encoder() if backbone.model_type == "whisper" else model


def row(backbone: Backbone) -> str:
    """A line of the table."""
    is_speaker = backbone.kind == "language model"
    if not backbone.model_type:
        count, of_layers, said = backbone.parameters, None, f"{backbone.parameters / 1e9:.0f} B (model card)"
    else:
        model = weightless(backbone)
        count = sum(parameter.numel() for parameter in model.parameters())
        of_layers = _linear_parameters(model) if is_speaker else None
        said = f"{count / 1e6:,.1f} M"
    in_half = _size(2 * count) if is_speaker else ""
    in_quarter = _size(of_layers + 2 * (count - of_layers)) if of_layers is not None else ""
    return f"| `{backbone.name}` | {backbone.kind} | {said} | {_size(4 * count)} | {in_half} | {in_quarter} |"


def _linear_parameters(model: nn.Module) -> int:
    """Weights of the decoder's linear layers, which `model.quantization int8` holds in a byte each."""
    layers = study(model).layers
    return sum(each.weight.numel() for layer in layers for each in layer.modules() if isinstance(each, nn.Linear))


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count < 1e10 else f"{count / 1e9:.0f} GB"


def main() -> None:
    lines = [
        "| hub name | what it is | parameters | float32 | bfloat16 | `model.quantization int8` |",
        "|---|---|---|---|---|---|",
        *map(row, BACKBONES),
    ]
    fill(PAGE, "memory", "\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
