"""What a configuration alone tells: refused before any weights are read, which the directories here do not have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from families import new_language_model
from transformers import (
    BartConfig,
    BertConfig,
    CohereConfig,
    FalconH1Config,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3nConfig,
    Gemma3nTextConfig,
    Gemma4Config,
    GPTNeoConfig,
    GptOssConfig,
    JambaConfig,
    LlamaConfig,
    MambaConfig,
    Qwen2VLConfig,
    Qwen3NextConfig,
    RwkvConfig,
    T5Config,
)

from epalm.errors import ConfigError, UnsupportedModelError
from epalm.models.backbones import load_language_model
from epalm.models.reduced import reduced_copy

INSTEAD = "; take a causal language model with attention in every layer, such as OPT, Llama, Qwen3 or Gemma 3"
REFUSED = {
    "mamba": (MambaConfig, "layers of type linear_attention are not attention over all tokens"),
    "jamba": (JambaConfig, "layers of type linear_attention are not attention over all tokens"),
    "qwen3_next": (Qwen3NextConfig, "layers of type linear_attention are not attention over all tokens"),
    "falcon_h1": (FalconH1Config, "layers of type hybrid are not attention over all tokens"),
    "rwkv": (RwkvConfig, r"its layers \(RwkvBlock\) take no attention mask"),
    "gemma3n": (Gemma3nConfig, "last 15 layers take keys and values from layers below"),
    "gemma3n_text": (Gemma3nTextConfig, "last 15 layers take keys and values from layers below"),
    "gemma4": (Gemma4Config, "embeds every token anew for each layer"),
    "bert": (BertConfig, "a later token changes an earlier position"),
    "gpt_neo": (GPTNeoConfig, "hides distant positions by itself"),
    "bart": (BartConfig, "encoder-decoder models .* are not served"),
    "t5": (T5Config, "encoder-decoder models .* are not served"),
    "qwen2_vl": (Qwen2VLConfig, "not a causal language model"),
}
"""As large as they are published: to build one with its weights would take gigabytes."""


@pytest.mark.parametrize("family", REFUSED)
def test_what_cannot_be_served_is_refused_before_its_weights_are_read(family: str, tmp_path: Path) -> None:
    config, message = REFUSED[family]
    config().save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModelError, match=message) as caught:
        load_language_model(tmp_path)
    assert family in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(("such as Gemma 3", INSTEAD))


@pytest.mark.parametrize("config", [LlamaConfig, CohereConfig, GptOssConfig])
def test_what_can_be_served_lacks_its_weights_alone(config: Any, tmp_path: Path) -> None:
    config().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="holds no weights"):
        load_language_model(tmp_path)


@pytest.mark.parametrize("field", ["attn_implementation", "_attn_implementation"])
def test_an_attention_that_is_asked_for_stands_above_the_configuration_s(field: str, tmp_path: Path) -> None:
    LlamaConfig().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: "flash_attention_2"}))
    with pytest.raises(UnsupportedModelError, match=r"'flash_attention_2' cannot show a slot .* from eager, sdpa"):
        load_language_model(tmp_path)
    with pytest.raises(ConfigError, match="holds no weights"):
        load_language_model(tmp_path, attn_implementation="sdpa")


def test_decoder_layers_are_looked_for_first_of_all(tmp_path: Path) -> None:
    LlamaConfig().save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModelError, match=r"no ModuleList at 'layers'; choose from model\.layers"):
        load_language_model(tmp_path, decoder_layers="layers")


def test_a_copy_is_small_has_every_type_of_layer_and_leaves_the_seed_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    config = GptOssConfig()  # 117 billion parameters
    torch.manual_seed(5)
    small = reduced_copy(config)
    assert small is not None
    assert torch.equal(torch.rand(3), expected)
    assert small.num_parameters() < 50e6
    assert small.config.layer_types == ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
    assert (config.num_hidden_layers, config.vocab_size) == (36, 201088)
    assert all(parameter.device.type == "cpu" for parameter in small.parameters())


def test_a_family_that_nobody_has_proven_is_loaded_where_its_copy_passes(tmp_path: Path) -> None:
    sizes = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 5}
    config = CohereConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)
    assert reduced_copy(config) is not None
    new_language_model(config).save_pretrained(tmp_path)
    assert load_language_model(tmp_path)[1].family == "cohere"


def test_a_model_of_text_and_pictures_is_served_by_its_text_model(tmp_path: Path) -> None:
    """However many layers its tower has."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 5, "num_attention_heads": 4}
    config = Gemma3Config(
        text_config={**sizes, "vocab_size": 97, "head_dim": 8, "num_key_value_heads": 2},
        vision_config={**sizes, "image_size": 8, "patch_size": 4},
        image_token_id=90, boi_token_index=91, eoi_token_index=92,
    )  # fmt: skip
    Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path)
    model, anatomy, _ = load_language_model(tmp_path)
    assert anatomy.family == "gemma3"
    assert anatomy.layers == tuple(model.model.language_model.layers)
