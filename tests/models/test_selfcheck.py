"""Families nobody has proven: served if they pass the examination, refused in one line if not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from families import HEADS, WIDTH, augmented, features, new_language_model, padded, text
from torch import nn
from transformers import (
    BertConfig,
    CohereConfig,
    Gemma3Config,
    Gemma3nTextConfig,
    Gemma4TextConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoConfig,
    LlamaConfig,
    MambaConfig,
    MixtralConfig,
    MllamaForCausalLM,
    MllamaTextConfig,
    MptConfig,
    RwkvConfig,
    Starcoder2Config,
    T5Config,
    T5ForConditionalGeneration,
    XGLMConfig,
)

from epalm.errors import UnsupportedModelError
from epalm.models import PerceptualLM
from epalm.models.anatomy import study
from epalm.models.selfcheck import PROVEN, examine

MODERN: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 5,
    "num_attention_heads": HEADS,
    "max_position_embeddings": 64,
}
OLD: dict[str, Any] = {"vocab_size": 97, "n_embd": WIDTH, "n_layer": 5, "n_head": HEADS, "n_positions": 64}
GEMMA4: dict[str, Any] = MODERN | {
    "head_dim": 8, "global_head_dim": 8, "num_key_value_heads": 2, "layer_types": ["full_attention"] * 5
}  # fmt: skip
SERVED = {
    "gptj": GPTJConfig(**OLD, rotary_dim=4),
    "starcoder2": Starcoder2Config(**MODERN, num_key_value_heads=2),
    "cohere": CohereConfig(**MODERN),
    "mixtral": MixtralConfig(**MODERN, num_local_experts=4, num_key_value_heads=2),
    "xglm": XGLMConfig(
        vocab_size=97, d_model=WIDTH, num_layers=5, attention_heads=HEADS, ffn_dim=48, max_position_embeddings=64
    ),
}
REFUSED = {
    "mamba": (
        MambaConfig(vocab_size=97, hidden_size=WIDTH, num_hidden_layers=4, state_size=4),
        "not attention over all",
    ),
    "rwkv": (RwkvConfig(vocab_size=97, hidden_size=WIDTH, num_hidden_layers=4), "no attention mask"),
    "gemma3n_text": (
        Gemma3nTextConfig(
            **MODERN,
            head_dim=8,
            num_kv_shared_layers=2,
            hidden_size_per_layer_input=4,
            vocab_size_per_layer_input=97,
            laurel_rank=4,
            layer_types=["full_attention"] * 5,
            activation_sparsity_pattern=[0.0] * 5,
        ),
        "last 2 layers take keys and values from layers below, .* num_kv_shared_layers is 0",
    ),
    "gemma4_text": (
        Gemma4TextConfig(
            **GEMMA4, num_kv_shared_layers=0, hidden_size_per_layer_input=4, vocab_size_per_layer_input=64
        ),
        "embeds every token anew for each layer, .* hidden_size_per_layer_input is 0",
    ),
    "bert": (BertConfig(**MODERN), "a later token changes an earlier position"),
    "mpt": (
        MptConfig(vocab_size=97, d_model=WIDTH, n_layers=5, n_heads=HEADS, max_seq_len=64),
        "cannot be given perception",
    ),
    "gpt_neo": (
        GPTNeoConfig(
            vocab_size=97, hidden_size=WIDTH, num_layers=4, num_heads=HEADS, attention_types=[[["global", "local"], 2]]
        ),
        "hides distant positions by itself",
    ),
}


@pytest.mark.parametrize("family", SERVED)
@torch.no_grad()
def test_an_unproven_family_that_passes_is_served_rightly(family: str) -> None:
    assert family not in PROVEN
    model = augmented(new_language_model(SERVED[family]))
    ids, mask = padded(text(), [9, 4, 6], "left")
    cached, uncached = (
        model.generate(ids, mask, features=features(3), max_new_tokens=6, use_cache=use_cache, eos_token_id=None)
        for use_cache in (True, False)
    )
    assert torch.equal(cached, uncached)
    for row, length in enumerate([9, 4, 6]):
        alone = model(text()[row : row + 1, :length], features=features(3)[row : row + 1]).logits[0, 4:]
        torch.testing.assert_close(
            model(ids, mask, features=features(3)).logits[row, -length:], alone, rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("family", REFUSED)
def test_a_family_that_fails_is_refused_in_one_line(family: str) -> None:
    config, message = REFUSED[family]
    with pytest.raises(UnsupportedModelError, match=message) as caught:
        PerceptualLM.build(new_language_model(config), encoder_width=4)
    assert "\n" not in str(caught.value)
    assert family in str(caught.value)


def test_encoder_decoder_models_are_refused() -> None:
    model = T5ForConditionalGeneration(T5Config(vocab_size=97, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2))
    with pytest.raises(UnsupportedModelError, match="t5: encoder-decoder models are not served"):
        PerceptualLM.build(model, encoder_width=4)


def test_other_attention_implementations_are_refused() -> None:
    model = new_language_model(LlamaConfig(**MODERN))
    model.config._attn_implementation = "flex_attention"
    with pytest.raises(UnsupportedModelError, match="'flex_attention' cannot show a slot to some layers only"):
        PerceptualLM.build(model, encoder_width=4)


def test_a_proven_name_around_something_else_is_examined() -> None:
    """Gemma 3 with pictures of its own has a Gemma 3 text model inside, and is another family."""
    config = Gemma3Config(
        text_config={**MODERN, "head_dim": 8, "num_key_value_heads": 2},
        vision_config={
            "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
            "image_size": 8, "patch_size": 4,
        },
    )  # fmt: skip
    assert study(new_language_model(config)).family not in PROVEN


def test_layers_that_cannot_be_told_apart_are_named_by_hand() -> None:
    model = new_language_model(LlamaConfig(**MODERN))
    model.model.spare = nn.ModuleList(nn.Identity() for _ in range(5))
    with pytest.raises(UnsupportedModelError, match=r"give decoder_layers, one of model\.layers, model\.spare"):
        PerceptualLM.build(model, encoder_width=4)
    found = PerceptualLM.build(model, encoder_width=4, decoder_layers="model.layers")
    assert found.anatomy.layers == tuple(model.model.layers)
    with pytest.raises(UnsupportedModelError, match=r"no ModuleList at 'model\.blocks'"):
        PerceptualLM.build(model, encoder_width=4, decoder_layers="model.blocks")
    model.model.layers = nn.ModuleList(list(model.model.layers)[:4])
    del model.model.spare
    with pytest.raises(UnsupportedModelError, match=r"no ModuleList of 5 decoder layers .* one of model\.layers"):
        PerceptualLM.build(model, encoder_width=4)


def test_towers_beside_the_text_model_are_not_its_decoder_layers() -> None:
    model = new_language_model(LlamaConfig(**MODERN))
    model.tower = nn.ModuleList(nn.Identity() for _ in range(5))
    assert study(model).layers == tuple(model.model.layers)


def test_one_layer_that_runs_many_times_is_refused() -> None:
    model = new_language_model(LlamaConfig(**MODERN))
    model.model.layers = nn.ModuleList([model.model.layers[0]] * 5)
    with pytest.raises(UnsupportedModelError, match="runs one layer several times"):
        PerceptualLM.build(model, encoder_width=4)


def test_a_table_with_as_many_rows_as_positions_is_no_table_of_positions() -> None:
    rotary, learned = (new_language_model(config) for config in (LlamaConfig(**MODERN), GPT2Config(**OLD)))
    positions = learned.transformer.wpe
    del learned.transformer.wpe
    for text_model in (rotary.model, learned.transformer):
        text_model.tokens_of_layers = nn.Embedding(64, 5 * WIDTH)
    learned.transformer.wpe = positions  # the other comes first
    assert study(rotary).position_table is None
    assert study(learned).position_table is positions
    words = new_language_model(GPT2Config(**OLD | {"vocab_size": 64}))
    assert study(words).position_table is words.transformer.wpe
    rotary.model.tokens_of_layers = nn.Embedding(64, WIDTH)  # nothing in its shape tells it apart
    with pytest.raises(UnsupportedModelError, match="learned positions are not where its configuration counts them"):
        examine(rotary, study(rotary))


def test_bidirectional_attention_among_pictures_alone_is_causal_for_text() -> None:
    for bidirectional in ("vision", "all"):
        config = Gemma4TextConfig(
            **GEMMA4,
            num_kv_shared_layers=0,
            hidden_size_per_layer_input=0,
            use_bidirectional_attention=bidirectional,
        )
        model = new_language_model(config)
        if bidirectional == "vision":
            examine(model, study(model))
        else:
            with pytest.raises(UnsupportedModelError, match="its attention is not causal"):
                study(model)


class Bent(nn.Module):
    """Wraps a decoder layer and breaks one rule."""

    def __init__(self, layer: nn.Module, rule: str) -> None:
        super().__init__()
        self.layer, self.rule = layer, rule

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **rest: Any) -> Any:
        if self.rule == "future":
            attention_mask = torch.zeros_like(attention_mask)
        if self.rule == "blind":
            attention_mask = attention_mask.clone()
            attention_mask[..., 0] = torch.finfo(attention_mask.dtype).min
            attention_mask[..., 0, 0] = 0
        output = self.layer(hidden_states, attention_mask=attention_mask, **rest)
        if self.rule == "place":
            output = output * torch.linspace(1, 2, output.shape[1]).view(1, -1, 1)
        if self.rule == "room":
            raise torch.OutOfMemoryError("CUDA out of memory")
        if self.rule == "nan":
            output = output * float("nan")
        return output


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("future", "a later token changes an earlier position"),
        ("blind", "perception does not reach the text"),
        ("place", "a slot that no layer may see|padding on the left|a later token"),
        ("nan", "not finite; its weights are damaged"),
    ],
)
def test_examination_notices_what_bends_the_rules(rule: str, message: str) -> None:
    model = new_language_model(LlamaConfig(**MODERN))
    examine(model, study(model))
    layers = [*model.model.layers]
    model.model.layers = nn.ModuleList(Bent(layer, rule) for layer in layers)
    with pytest.raises(UnsupportedModelError, match=message):
        examine(model, study(model))
    if rule == "blind":
        model.model.layers = nn.ModuleList([*layers[:-1], Bent(layers[-1], rule)])
        with pytest.raises(UnsupportedModelError, match="perception in its last layer does not reach the text"):
            examine(model, study(model))


def test_a_lack_of_memory_says_nothing_about_the_family() -> None:
    model = new_language_model(LlamaConfig(**MODERN))
    model.model.layers = nn.ModuleList(Bent(layer, "room") for layer in model.model.layers)
    with pytest.raises(torch.OutOfMemoryError):
        examine(model, study(model))


def test_examination_notices_layers_that_are_left_out() -> None:
    """Llama with pictures of its own leaves the layers out that look at them, where there are none."""
    config = MllamaTextConfig(
        **MODERN, num_key_value_heads=2, cross_attention_layers=[1], pad_token_id=1,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
    )  # fmt: skip
    model = MllamaForCausalLM(config).eval()
    with pytest.raises(UnsupportedModelError, match="its layers do not run once each, one after the other"):
        PerceptualLM.build(model, encoder_width=4)
