"""Tiny random models of every proven family, and what it takes to put them through their paces."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
    StableLmConfig,
)

from epalm.models import PerceptualLM
from epalm.settings import AdapterConfig

VOCABULARY, WIDTH, LAYERS, HEADS = 97, 32, 5, 4
E, K, START, END = 12, 2, 1, 3
"""Two levels in the layers 1 and 2 of five: layers below, inside and after the window."""
MODALITIES: dict[str, dict[str, int]] = {"image": {"image": E}, "image and audio": {"image": E, "audio": 5}}
"""Widths of the perception by modality: one slot, and two."""
DEPTHS = {"image": K, "audio": 1}
"""How many levels each has: the slots change at different layers."""

_SPECIAL = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 2}
_MODERN: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    **_SPECIAL,
}
_SLIDING = ["sliding_attention", "full_attention", "sliding_attention", "full_attention", "sliding_attention"]
_OPT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "ffn_dim": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": 64,
    "word_embed_proj_dim": WIDTH,
    **_SPECIAL,
}
_FALCON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": 64,
    **_SPECIAL,
}

FAMILIES: dict[str, Callable[[], Any]] = {
    "opt": lambda: OPTConfig(**_OPT),
    "opt-postnorm": lambda: OPTConfig(**_OPT, do_layer_norm_before=False),
    "opt-projected": lambda: OPTConfig(**_OPT | {"word_embed_proj_dim": 16}, do_layer_norm_before=False),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_positions=64, **_SPECIAL
    ),
    "gpt_neox": lambda: GPTNeoXConfig(**{k: v for k, v in _MODERN.items() if k != "num_key_value_heads"}),
    "llama": lambda: LlamaConfig(**_MODERN),
    "mistral": lambda: MistralConfig(**_MODERN, sliding_window=4),
    "qwen2": lambda: Qwen2Config(**_MODERN, use_sliding_window=True, sliding_window=4, layer_types=_SLIDING),
    "qwen3": lambda: Qwen3Config(**_MODERN, head_dim=8),
    "gemma2": lambda: Gemma2Config(**_MODERN, head_dim=8, sliding_window=4, layer_types=_SLIDING),
    "gemma3": lambda: Gemma3TextConfig(**_MODERN, head_dim=8, sliding_window=4, layer_types=_SLIDING),
    "phi3": lambda: Phi3Config(**_MODERN, sliding_window=4),
    "smollm3": lambda: SmolLM3Config(**_MODERN),
    "bloom": lambda: BloomConfig(vocab_size=VOCABULARY, hidden_size=WIDTH, n_layer=LAYERS, n_head=HEADS, **_SPECIAL),
    "falcon-alibi": lambda: FalconConfig(**_FALCON, alibi=True, new_decoder_architecture=False, multi_query=False),
    "falcon-rotary": lambda: FalconConfig(**_FALCON, alibi=False, new_decoder_architecture=True, num_kv_heads=2),
    "stablelm": lambda: StableLmConfig(**_MODERN),
}
_EAGER_ONLY = ("bloom", "gemma2")
"""transformers has no sdpa attention for these."""
MATRIX = [
    (family, attention)
    for family in FAMILIES
    for attention in ("eager", "sdpa")
    if attention == "eager" or family not in _EAGER_ONLY
]


def new_language_model(config: Any, attention: str = "eager", seed: int = 0) -> PreTrainedModel:
    """A random model whose weights are large enough for every part of it to matter."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
            elif "norm" in name or "ln" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.generation_config.update(**_SPECIAL)
    return model


@cache
def language_model(family: str, attention: str) -> PreTrainedModel:
    """One model per family and attention, shared by all tests: it is frozen."""
    return new_language_model(FAMILIES[family](), attention)


def augmented(
    lm: PreTrainedModel,
    prompt: str = "plain",
    connector: str = "shared",
    widths: Any = E,
    depths: Any = None,
    **settings: Any,
) -> PerceptualLM:
    """`lm` with ready features as its perception, and trained tensors far from zero."""
    torch.manual_seed(1)
    values = {"levels": K, "start": START, "end": END, "prompt_tokens": 3, **settings}
    config = AdapterConfig(connector=connector, prompt=prompt, **values)
    model = PerceptualLM.build(lm, config=config, encoder_width=widths, encoder_levels=depths).eval()
    with torch.no_grad():
        for parameter in model.perception.connector.parameters():
            parameter.mul_(3)
    return model


def perceiving(lm: PreTrainedModel, modalities: str, **settings: Any) -> PerceptualLM:
    """`augmented`, with one of `MODALITIES`."""
    return augmented(lm, widths=MODALITIES[modalities], depths=DEPTHS, levels=None, **settings)


def features(rows: int, seed: int = 2, width: int = E) -> Tensor:
    """(rows, K, E)."""
    return torch.randn(rows, K, width, generator=torch.Generator().manual_seed(seed))


def perceived(model: PerceptualLM, rows: int, seed: int = 2) -> dict[str, Tensor]:
    """(rows, K, E) for every modality of `model`, all of them different."""
    return {
        name: torch.randn(rows, model.levels[name], width, generator=torch.Generator().manual_seed(seed + 100 * number))
        for number, (name, width) in enumerate(model.perception.widths.items())
    }


def of_rows(features: dict[str, Tensor], rows: slice) -> dict[str, Tensor]:
    """The perception of some rows."""
    return {name: tensor[rows] for name, tensor in features.items()}


def text(rows: int = 3, length: int = 9, seed: int = 3) -> Tensor:
    """(rows, length) token ids, none of them special."""
    return torch.randint(4, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


def padded(ids: Tensor, lengths: list[int], side: str) -> tuple[Tensor, Tensor]:
    """The first `lengths` tokens of every row, padded to the longest: ids and mask."""
    longest = max(lengths)
    rows, masks = [], []
    for row, length in zip(ids, lengths, strict=True):
        fill = torch.full((longest - length,), 1)
        parts = [fill, row[:length]] if side == "left" else [row[:length], fill]
        ones, zeros = torch.ones(length, dtype=torch.long), torch.zeros(longest - length, dtype=torch.long)
        rows.append(torch.cat(parts))
        masks.append(torch.cat([zeros, ones] if side == "left" else [ones, zeros]))
    return torch.stack(rows), torch.stack(masks)
