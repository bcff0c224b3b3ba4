"""A language model's own generation settings: of them special tokens are honoured, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import GenerationConfig

from epalm.errors import ConfigError
from epalm.models import PerceptualLM

NASTY: list[dict[str, Any]] = [
    {"repetition_penalty": 1.8, "encoder_repetition_penalty": 1.5, "renormalize_logits": True},
    {"no_repeat_ngram_size": 1, "encoder_no_repeat_ngram_size": 1},
    {"min_new_tokens": 6, "max_new_tokens": 7},
    {"max_length": 3, "min_length": 2, "max_time": 1e-9},
    {"suppress_tokens": list(range(40, 200)), "begin_suppress_tokens": list(range(100, 256))},
    {"bad_words_ids": [[token] for token in range(60, 220)]},
    {"sequence_bias": [[[token], 9.0] for token in range(65, 75)]},
    {"length_penalty": -9.0, "early_stopping": True, "exponential_decay_length_penalty": [1, 9.0]},
    {"do_sample": True, "temperature": 9.0, "top_k": 200, "top_p": 0.9, "min_p": 0.1, "typical_p": 0.5},
    {"forced_bos_token_id": 70, "forced_eos_token_id": 71, "watermarking_config": {"bias": 9.0}},
    {"num_beams": 4, "num_return_sequences": 2, "num_beam_groups": 2, "diversity_penalty": 0.5},
    {"stop_strings": ["a"], "token_healing": True, "use_cache": False, "a_word_of_nobodys": 3},
    {"return_dict_in_generate": True, "output_scores": True, "output_attentions": True},
    {"penalty_alpha": 0.6, "top_k": 4},
    {"dola_layers": "low", "force_words_ids": [[70]]},
    {"prompt_lookup_num_tokens": 2, "assistant_early_exit": 1},
    {"guidance_scale": 2.0},
    {"prefill_chunk_size": 2, "cache_implementation": "static"},
]
ENDS = {"eos_token_id": [257, *range(0, 256, 4)]}
"""So many end tokens that some answers end early: what delays or forbids an end, or weighs lengths, then shows."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny language models with learned positions, with rotary ones, and with sliding windows."""
    folder = tmp_path_factory.mktemp("own-settings")
    made = {kind: tiny.save_language_model(folder / kind, kind) for kind in ("opt", "llama")}
    made["sliding"] = tiny.save_language_model(folder / "sliding", "llama")
    config = json.loads((made["sliding"] / "config.json").read_text())
    config |= {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 4}
    (made["sliding"] / "config.json").write_text(json.dumps(config))
    return made


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    values = json.loads((folder / "config.json").read_text())
    special = {name: values[name] for name in ("bos_token_id", "pad_token_id")}
    (folder / "generation_config.json").write_text(json.dumps(special | ENDS | settings))


def load(folder: Path, settings: dict[str, Any]) -> PerceptualLM:
    """The language model of a folder, with these in its generation_config.json, given perception."""
    write_settings(folder, settings)
    torch.manual_seed(0)
    return PerceptualLM.build(folder, encoder_width=6, config="epalm_pt").eval()


def text() -> torch.Tensor:
    return torch.arange(70, 82).reshape(3, 4)


def perceived(model: PerceptualLM) -> dict[str, torch.Tensor]:
    return {"features": torch.randn(3, model.levels["image"], 6, generator=torch.Generator().manual_seed(1))}


def answers(model: PerceptualLM) -> list[list[list[int]]]:
    """Greedy and by three beams; with perception, and of the plain language model."""
    plain = PerceptualLM.build(model.language_model, config="text_only", tokenizer=model.tokenizer).eval()
    plain.prompt = None
    ways = [
        {"max_new_tokens": 6, "num_beams": beams, "use_cache": cached} for beams in (1, 3) for cached in (True, False)
    ]
    return [
        each.generate(text(), **features, **way).tolist()
        for each, features in ((model, perceived(model)), (plain, {}))
        for way in ways
    ]


@pytest.mark.parametrize("kind", ["opt", "llama", "sliding"])
def test_nothing_of_the_file_changes_what_is_generated(folders: dict[str, Path], kind: str) -> None:
    clean = answers(load(folders[kind], {}))
    model = load(folders[kind], NASTY[0])
    for settings in NASTY if kind == "opt" else NASTY[-2:]:
        write_settings(folders[kind], settings)
        own = GenerationConfig.from_pretrained(folders[kind])
        model.language_model.generation_config = own
        as_read = own.to_dict()
        assert answers(model) == clean, settings
        assert model.language_model.generation_config is own
        assert own.to_dict() == as_read


@pytest.mark.filterwarnings("ignore:Passing .* with `inputs_embeds`:UserWarning")
def test_what_the_caller_says_counts(folders: dict[str, Path]) -> None:
    model = load(folders["llama"], {"repetition_penalty": 1.8, "max_new_tokens": 3})
    features = perceived(model)

    def generate(**arguments: Any) -> list[list[int]]:
        return model.generate(text(), **features, eos_token_id=[], **arguments).tolist()

    plain, penalised = generate(), generate(repetition_penalty=1.8)
    assert [len(row) for row in plain] == [20] * 3
    assert plain != penalised
    assert penalised == generate(generation_config=GenerationConfig(repetition_penalty=1.8))
    assert [row[:3] for row in penalised] == generate(generation_config=model.language_model.generation_config)
    assert plain == generate(generation_config=GenerationConfig(repetition_penalty=1.8), repetition_penalty=1.0)
    assert [row[:4] for row in plain] == generate(generation_config=GenerationConfig(max_new_tokens=9), max_length=4)
    full = model.generate(text(), **features, return_dict_in_generate=True, output_logits=True)
    assert len(full.logits) == full.sequences.shape[1]
    assert model.generate(text(), **features, stop_strings=["\n"], tokenizer=model.tokenizer).shape[1] <= 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"early_stopping": "soon"}, "generate: `early_stopping` must be"),
        ({"cache_implementation": "nowhere"}, "generate: Invalid `cache_implementation`"),
        ({"generation_config": {"num_beams": 2}}, "generation_config: expected a GenerationConfig, got a dict"),
        ({"penalty_alpha": 0.6, "top_k": 4}, "generate: penalty_alpha cannot be combined"),
        ({"generation_config": GenerationConfig(dola_layers="low")}, "generate: dola_layers cannot be combined"),
    ],
)
def test_what_the_caller_cannot_have_is_refused(folders: dict[str, Path], arguments: dict, message: str) -> None:
    model = load(folders["llama"], {})
    with pytest.raises(ConfigError, match=message):
        model.generate(text(), **perceived(model), **arguments)
