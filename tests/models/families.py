"""Tiny random models of every proven family, and what it takes to put them through their paces."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import (
    ApertusConfig,
    ArceeConfig,
    AutoModelForCausalLM,
    BloomConfig,
    Cohere2Config,
    Ernie4_5Config,
    Exaone4Config,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    Gemma4TextConfig,
    Glm4Config,
    GPT2Config,
    GPTNeoXConfig,
    GptOssConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Olmo3Config,
    OPTConfig,
    Phi3Config,
    PhiConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
    SeedOssConfig,
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

PROMPT = 3
LENGTHS = [9, 4, 6]
SIDES = ("left", "right")

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
_SPARSE: dict[str, Any] = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
_GEMMA4: dict[str, Any] = _MODERN | {
    "head_dim": 8,
    "global_head_dim": 16,
    "sliding_window": 4,
    "layer_types": _SLIDING,
    "num_kv_shared_layers": 0,
    "hidden_size_per_layer_input": 0,
}
FURTHER_FAMILIES: dict[str, Callable[[], Any]] = {
    "apertus": lambda: ApertusConfig(**_MODERN),
    "arcee": lambda: ArceeConfig(**_MODERN),
    "cohere2": lambda: Cohere2Config(**_MODERN, sliding_window=4, layer_types=_SLIDING),
    "ernie4_5": lambda: Ernie4_5Config(**_MODERN, head_dim=8),
    "exaone4": lambda: Exaone4Config(**_MODERN, sliding_window=4, layer_types=_SLIDING),
    "gemma4": lambda: Gemma4TextConfig(**_GEMMA4),
    "gemma4-moe": lambda: Gemma4TextConfig(
        **_GEMMA4,
        enable_moe_block=True,
        num_experts=4,
        top_k_experts=2,
        moe_intermediate_size=16,
        attention_k_eq_v=True,
    ),
    "glm4": lambda: Glm4Config(**_MODERN, head_dim=8),
    "gpt_oss": lambda: GptOssConfig(
        **_MODERN, head_dim=8, sliding_window=4, layer_types=_SLIDING, num_local_experts=4, num_experts_per_tok=2
    ),
    "granite": lambda: GraniteConfig(
        **_MODERN, embedding_multiplier=12.0, residual_multiplier=0.22, logits_scaling=8.0, attention_multiplier=0.1
    ),
    "olmo2": lambda: Olmo2Config(**_MODERN),
    "olmo3": lambda: Olmo3Config(**_MODERN, sliding_window=4, layer_types=_SLIDING),
    "phi": lambda: PhiConfig(**_MODERN),
    "qwen3_moe": lambda: Qwen3MoeConfig(**_MODERN, head_dim=8, num_experts=4, **_SPARSE),
    "seed_oss": lambda: SeedOssConfig(**_MODERN, head_dim=8),
}
"""Held to the same by one test each, with the attention that transformers chooses."""
_EAGER_ONLY = ("bloom", "gemma2")
"""transformers has no sdpa attention for these."""
MATRIX = [
    (family, attention)
    for family in FAMILIES
    for attention in ("eager", "sdpa")
    if attention == "eager" or family not in _EAGER_ONLY
]


def new_language_model(config: Any, attention: str | None = "eager", seed: int = 0) -> PreTrainedModel:
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
def language_model(family: str, attention: str | None = None) -> PreTrainedModel:
    """One model per family and attention, shared by all tests: it is frozen."""
    return new_language_model((FAMILIES | FURTHER_FAMILIES)[family](), attention)


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
    values = {"levels": K, "start": START, "end": END, "prompt_tokens": PROMPT, **settings}
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


def front(model: PerceptualLM) -> int:
    """Positions in front of the text: a slot for each modality, and the soft prompt."""
    return len(model.levels) + (PROMPT if model.prompt is not None else 0)


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


def with_other_last_tokens(ids: Tensor, side: str) -> tuple[Tensor, list[int]]:
    """`padded` ids with another last token in every row of `LENGTHS`, and the column of each."""
    changed = ids.clone()
    last = [ids.shape[1] - 1 if side == "left" else length - 1 for length in LENGTHS]
    for row, column in enumerate(last):
        changed[row, column] = 4 + (ids[row, column] - 3) % (VOCABULARY - 4)
    return changed, last
