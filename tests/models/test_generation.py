"""`generate`'s own arguments: lengths, beginnings, outputs, caches, refusals."""

from __future__ import annotations

import pytest
import torch
from families import augmented, features, language_model, padded, text
from transformers import GenerationConfig, SuppressTokensLogitsProcessor
from transformers.generation.streamers import BaseStreamer

from epalm.errors import ConfigError

ENDLESS = {"eos_token_id": None, "do_sample": False}


@pytest.fixture
def model():
    return augmented(language_model("llama", "sdpa"))


@pytest.mark.parametrize(
    ("arguments", "length"),
    [
        ({"max_new_tokens": 5}, 5),
        ({"max_length": 6}, 6),
        ({"max_length": 6, "max_new_tokens": 5}, 5),
        ({"generation_config": GenerationConfig(max_length=4, eos_token_id=[])}, 4),
        ({"generation_config": GenerationConfig(max_new_tokens=3, num_beams=2, eos_token_id=[])}, 3),
        ({}, 20),
    ],
)
def test_every_length_counts_new_tokens(model, arguments: dict, length: int) -> None:
    ways = {} if "generation_config" in arguments else ENDLESS
    for use_cache in (True, False):
        new = model.generate(text(), features=features(3), use_cache=use_cache, **ways, **arguments)
        assert new.shape == (3, length)
    assert augmented(model.language_model, prompt="none").generate(text(), **ways, **arguments).shape == (3, length)


def test_minimum_length_counts_new_tokens(model) -> None:
    every = list(range(97))
    new = model.generate(text(), features=features(3), max_new_tokens=9, min_length=4, eos_token_id=every[4:])
    assert new.shape[1] >= 4


def test_without_text_it_begins_with_bos(model) -> None:
    given = features(3)
    new = model.generate(features=given, max_new_tokens=4, **ENDLESS)
    assert torch.equal(new, model.generate(torch.full((3, 1), 2), features=given, max_new_tokens=4, **ENDLESS))
    assert len({tuple(row) for row in new.tolist()}) > 1


@pytest.mark.parametrize("use_cache", [True, False])
def test_full_output_has_new_tokens_only(model, use_cache: bool) -> None:
    output = model.generate(
        text(), features=features(3), max_new_tokens=4, use_cache=use_cache, return_dict_in_generate=True,
        output_logits=True, **ENDLESS,
    )  # fmt: skip
    assert output.sequences.shape == (3, 4)
    assert torch.equal(torch.stack([step.argmax(-1) for step in output.logits], dim=1), output.sequences)


@pytest.mark.parametrize("penalty", [{"repetition_penalty": 1.8}, {"no_repeat_ngram_size": 1}])
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("family", ["opt", "llama"])
@pytest.mark.filterwarnings("ignore:Passing .* with `inputs_embeds`:UserWarning")
def test_logits_processors_see_new_tokens_only(family: str, beams: int, penalty: dict) -> None:
    """Of five tokens that can be said at all, the last one of the text must be as free as the others."""
    model = augmented(language_model(family, "sdpa"))
    few = [*range(4, 9)]
    ids = text() % len(few) + few[0]
    penalty = penalty | {"suppress_tokens": sorted(set(range(97)) - set(few)), "num_beams": beams}
    cached, uncached = (
        model.generate(ids, features=features(3), max_new_tokens=4, use_cache=use_cache, **penalty, **ENDLESS)
        for use_cache in (True, False)
    )
    assert torch.equal(cached, uncached)
    assert (ids[:, -1:] == cached).any()


@pytest.mark.parametrize("beams", [1, 3])
def test_suppressed_tokens_are_those_of_transformers(model, beams: int) -> None:
    """Alone and in front of a caller's own processors; a token that the language model has not counts for nothing."""
    options = {"features": features(3), "max_new_tokens": 6, "num_beams": beams, **ENDLESS}
    said = model.generate(text(), **options)
    tokens = sorted(set(said.flatten().tolist()))
    theirs = [SuppressTokensLogitsProcessor(tokens)]
    expected = model.generate(text(), logits_processor=theirs, **options)
    assert not set(tokens) & set(expected.flatten().tolist())
    assert torch.equal(model.generate(text(), suppress_tokens=[*tokens, 9999], **options), expected)
    seen: list[bool] = []

    def watch(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        seen.append(bool(scores[:, tokens].isneginf().all()))
        return scores

    config = GenerationConfig(suppress_tokens=tokens)
    assert torch.equal(model.generate(text(), generation_config=config, logits_processor=[watch], **options), expected)
    assert seen == [True] * 6
    assert config.suppress_tokens == tokens


@pytest.mark.parametrize("use_cache", [True, False])
def test_stopping_criteria_see_new_tokens_only(model, use_cache: bool) -> None:
    lengths: list[int] = []

    def watch(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        lengths.append(ids.shape[1])
        return torch.zeros(len(ids), dtype=torch.bool)

    model.generate(
        text(), features=features(3), use_cache=use_cache, max_new_tokens=3, stopping_criteria=[watch], **ENDLESS
    )
    assert lengths == [1, 2, 3]


@pytest.mark.parametrize("family", ["opt", "llama", "bloom"])
@pytest.mark.parametrize("beams", [1, 3])
def test_static_cache_gives_the_same(family: str, beams: int) -> None:
    model = augmented(language_model(family, "eager"))
    ids, mask = padded(text(), [9, 4, 6], "left")
    dynamic, static = (
        model.generate(
            ids, mask, features=features(3), max_new_tokens=6, num_beams=beams, cache_implementation=kind, **ENDLESS
        )
        for kind in (None, "static")
    )
    assert torch.equal(dynamic, static)


def test_a_cache_that_would_forget_perception_is_refused() -> None:
    model = augmented(language_model("mistral", "sdpa"))
    with pytest.raises(ConfigError, match="'static' would forget the perception"):
        model.generate(text(), features=features(3), cache_implementation="static")


def test_perception_is_seen_long_after_the_sliding_window_has_passed_it() -> None:
    """Window 4, and 30 tokens generated one by one: every logit still depends on perception."""
    model = augmented(language_model("mistral", "sdpa"), start=4, end=5, levels=1)
    one, other = (
        model.generate(
            text(), features=features(3, seed)[:, :1], max_new_tokens=30, do_sample=False, eos_token_id=None,
            return_dict_in_generate=True, output_logits=True, suppress_tokens=[*range(9), *range(10, 97)],
        )
        for seed in (2, 5)
    )  # fmt: skip
    assert torch.equal(one.sequences, other.sequences)
    apart = torch.stack([(a - b).abs().amax(-1) for a, b in zip(one.logits, other.logits, strict=True)])
    assert (apart > 1e-4).all()


def test_generation_ends_where_a_learned_table_of_positions_does() -> None:
    model = augmented(language_model("opt", "sdpa"))
    new = model.generate(text(length=60), features=features(3), max_new_tokens=50, **ENDLESS)
    assert new.shape == (3, 5)


def test_decoding_steps_carry_one_token_and_prefill_one_slot(model) -> None:
    widths: list[tuple[int, int]] = []
    hook = model.anatomy.layers[-1].register_forward_pre_hook(
        lambda layer, given, named: widths.append((given[0].shape[1], named["attention_mask"].shape[-1])),
        with_kwargs=True,
    )
    model.generate(text(), features=features(3), max_new_tokens=4, **ENDLESS)
    hook.remove()
    assert widths == [(13, 13), (1, 14), (1, 15), (1, 16)]


@torch.no_grad()
def test_legacy_mask_lets_the_slot_see_every_new_token(model) -> None:
    """A cache would keep what the slot was before them."""
    legacy = augmented(model.language_model, mask="legacy")
    given = features(3)
    output = legacy.generate(
        text(), features=given, max_new_tokens=6, return_dict_in_generate=True, output_logits=True, **ENDLESS
    )
    for step, logits in enumerate(output.logits):
        so_far = torch.cat([text(), output.sequences[:, :step]], dim=1)
        torch.testing.assert_close(logits, legacy(so_far, features=given).logits[:, -1], rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("family", ["opt", "llama"])
@pytest.mark.parametrize("mask_of_slot", ["causal", "legacy"])
def test_kept_right_padding_is_what_the_original_generated_behind(family: str, mask_of_slot: str) -> None:
    """Greedy by forward passes over `[text | padding | new]`; without padding it is as ever."""
    model = augmented(language_model(family, "sdpa"), mask=mask_of_slot)
    ids, mask = padded(text(), [9, 4, 6], "right")
    given = features(3)
    kept = model.generate(ids, mask, features=given, keep_padding=True, max_new_tokens=6, **ENDLESS)
    whole, seen = ids, mask
    for _ in range(6):
        new = model(whole, seen, features=given).logits[:, -1].argmax(-1, keepdim=True)
        whole, seen = torch.cat([whole, new], dim=1), torch.cat([seen, torch.ones_like(new)], dim=1)
    assert torch.equal(kept, whole[:, 9:])
    moved = model.generate(ids, mask, features=given, max_new_tokens=6, **ENDLESS)
    assert torch.equal(kept[0], moved[0]) or mask_of_slot == "legacy"
    assert not torch.equal(kept[1:], moved[1:])
    beams = model.generate(ids[:1], features=given[:1], keep_padding=True, num_beams=3, max_new_tokens=6, **ENDLESS)
    expected = model.generate(ids[:1], features=given[:1], num_beams=3, max_new_tokens=6, **ENDLESS)
    assert torch.equal(beams, expected)


@pytest.mark.parametrize(
    "argument", ["assistant_model", "prompt_lookup_num_tokens", "inputs_embeds", "past_key_values", "guidance_scale"]
)
def test_what_cannot_be_combined_is_refused(model, argument: str) -> None:
    with pytest.raises(ConfigError, match=f"{argument} cannot be combined"):
        model.generate(text(), features=features(3), **{argument: 2})


def test_what_cannot_be_combined_is_refused_in_a_configuration(model) -> None:
    with pytest.raises(ConfigError, match="guidance_scale cannot be combined"):
        model.generate(text(), features=features(3), generation_config=GenerationConfig(guidance_scale=2.0))


class Streamed(BaseStreamer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.tokens: list[int] = []

    def put(self, value: torch.Tensor) -> None:
        self.tokens += value.flatten().tolist()

    def end(self) -> None:
        pass


@pytest.mark.parametrize("way", ["cached", "uncached", "blind"])
def test_new_tokens_alone_are_streamed(model, way: str) -> None:
    streamed = Streamed()
    given = {} if way == "blind" else {"features": features(1), "use_cache": way == "cached"}
    if way == "blind":
        model = augmented(model.language_model, connector="none", prompt="none")
    for _ in range(2):  # the streamer is as it was afterwards
        streamed.tokens.clear()
        new = model.generate(text(rows=1), **given, max_new_tokens=5, streamer=streamed, **ENDLESS)
        assert streamed.tokens == new[0].tolist()


def test_nothing_to_begin_with_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    model = augmented(language_model("qwen3", "eager"))
    monkeypatch.setattr(model.language_model, "generation_config", GenerationConfig())
    assert model.generate(features=features(3), max_new_tokens=2).shape[0] == 3  # its configuration has an end token
    monkeypatch.setattr(model.language_model.config, "eos_token_id", None)
    with pytest.raises(ConfigError, match="no token to begin with"):
        model.generate(features=features(3))


@pytest.mark.parametrize("family", ["opt", "llama"])
def test_frozen_products_are_given_states_side_by_side(family: str) -> None:
    """Of a slice of states torch makes a batched product, with a copy of a frozen weight for every row."""
    model = augmented(language_model(family, "sdpa"))
    plain = augmented(model.language_model, prompt="none")
    strided, calls = set(), []

    def look(module: torch.nn.Module, args: tuple, output: torch.Tensor) -> None:
        calls.append(module)
        if not args[0].is_contiguous():
            strided.add(tuple(args[0].shape))

    watched = [part for part in model.language_model.modules() if isinstance(part, torch.nn.Linear)]
    hooks = [part.register_forward_hook(look) for part in watched]
    try:
        for beams in (1, 3):
            model.generate(text(), features=features(3), max_new_tokens=3, num_beams=beams, **ENDLESS)
            plain.generate(text(), max_new_tokens=3, num_beams=beams, **ENDLESS)
        model.rank([[5, 2], [6, 7, 2]], text(), features=features(3))
    finally:
        for hook in hooks:
            hook.remove()
    assert model.language_model.get_output_embeddings() in calls
    assert not strided
