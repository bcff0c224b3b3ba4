"""What must hold for every mechanism that perception may enter by, on tiny random models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from families import FAMILIES, FURTHER_FAMILIES, LENGTHS, SIDES, language_model, padded, with_other_last_tokens
from mechanisms import RIVALS, TOKENS, mechanism_of, one_row, questions, rival, seen
from transformers import LlamaForCausalLM

from epalm.encoders import TokenFeatures
from epalm.errors import ConfigError, DataError, UnsupportedModelError
from epalm.models import PerceptualLM
from epalm.models.mechanisms import mechanism_names
from epalm.settings import PRESETS

BOTH = ("audio", "image")
FEW_FAMILIES = ("opt-projected", "llama", "gpt2", "mistral")
ROUNDED = dict.fromkeys(("gemma4-moe", "gpt_oss", "qwen3_moe"), 1e-5)
"""Mixtures of experts: what shares an expert shares a product, and its rounding."""
ENDLESS = {"eos_token_id": None, "do_sample": False}
every_rival = pytest.mark.parametrize("preset", RIVALS)
few_families = pytest.mark.parametrize("family", FEW_FAMILIES)
ENTRANCES = ("limber_all", "deepstack", "depalm_qp_inner", "cross_attention", "llama_adapter", "memvp")
"""One of each way to enter the language model."""
_WITHOUT_INTERFACE = ("bloom", "falcon-alibi", "falcon-rotary")
"""Families whose attention transformers' interface does not serve."""


def in_front(model: PerceptualLM, features: dict) -> int:
    """Positions in front of the text."""
    perceived = model.perception(features)
    tokens = mechanism_of(model).front(perceived)
    slots = mechanism_of(model).slots(perceived)
    return slots + (0 if tokens is None else tokens.mask.shape[1]) + (model.config.prompt_tokens if model.prompt else 0)


def close(first: torch.Tensor, second: torch.Tensor, within: float = 2e-4) -> bool:
    return bool((first - second).abs().max() <= within * second.abs().max())


def test_every_mechanism_has_a_preset() -> None:
    assert {PRESETS[name]["mechanism"] for name in RIVALS} | {"slot"} == set(mechanism_names())


def holds_what_must_hold(model: PerceptualLM, rounded: float = 0.0) -> None:
    """The future moves nothing, perception moves every text token, a batch gives what its members give alone."""
    ids = questions(length=9)
    for side in SIDES:
        rows, mask = padded(ids, LENGTHS, side)
        features = seen(model, 3)
        changed, last = with_other_last_tokens(rows, side)
        before, after = (model(each, mask, features=features).logits for each in (rows, changed))
        front = in_front(model, features)
        other = model(rows, mask, features=seen(model, 3, seed=7)).logits
        for row, column in enumerate(last):
            begin = front + (rows.shape[1] - LENGTHS[row] if side == "left" else 0)
            until = slice(begin, front + column)
            torch.testing.assert_close(after[row, until], before[row, until], rtol=0, atol=rounded)
            assert not torch.equal(before[row, front + column], after[row, front + column])
            real = slice(begin, begin + LENGTHS[row])
            moved = (before[row, real] - other[row, real]).abs().amax(-1) > 0
            # Tokens at the input are ordinary ones, which a sliding window hides after a while.
            assert moved[0] if model.anatomy.slides else moved.all()
            alone_ids = ids[row : row + 1, : LENGTHS[row]]
            alone = model(alone_ids, features=one_row(features, row)).logits[0, -LENGTHS[row] :]
            assert close(before[row, real], alone), (side, row)


def decodes_as_it_reads(model: PerceptualLM) -> None:
    """Cached generation is uncached generation, for one beam and three, in a padded batch and alone."""
    rows, mask = padded(questions(length=9), LENGTHS, "left")
    features = seen(model, 3)
    for beams in (1, 3):
        ways = {"max_new_tokens": 4, "num_beams": beams, **ENDLESS}
        cached, uncached = (
            model.generate(rows, mask, features=features, use_cache=use, **ways) for use in (True, False)
        )
        assert torch.equal(cached, uncached), beams
        alone = model.generate(rows[1:2, -LENGTHS[1] :], features=one_row(features, 1), **ways)
        assert torch.equal(cached[1:2], alone), beams


@every_rival
@few_families
@torch.no_grad()
def test_what_must_hold(family: str, preset: str) -> None:
    has_table = family in ("opt-projected", "gpt2")  # of 64 positions, which 2 x 32 tokens would fill
    model = rival(language_model(family), preset, ("audio",) if has_table else BOTH)
    holds_what_must_hold(model)
    decodes_as_it_reads(model)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ENTRANCES)
@pytest.mark.parametrize("family", [name for name in FAMILIES | FURTHER_FAMILIES if name not in FEW_FAMILIES])
@torch.no_grad()
def test_what_must_hold_in_every_family(family: str, preset: str) -> None:
    if preset == "llama_adapter" and family in _WITHOUT_INTERFACE:
        with pytest.raises(UnsupportedModelError, match="attention interface"):
            rival(language_model(family), preset)
        return
    model = rival(language_model(family), preset)
    holds_what_must_hold(model, ROUNDED.get(family, 0.0))
    decodes_as_it_reads(model)


@every_rival
@torch.no_grad()
def test_without_perception_it_is_the_plain_language_model(preset: str) -> None:
    lm = language_model("llama", "sdpa")
    model = rival(lm, preset, prompt="none")
    ids = questions()
    assert torch.equal(model(ids).logits, lm(input_ids=ids).logits)
    model(ids, features=seen(model, 3))
    assert torch.equal(model(ids).logits, lm(input_ids=ids).logits)
    assert lm.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("preset", ["cross_attention", "llama_adapter"])
@torch.no_grad()
def test_a_closed_gate_is_the_plain_language_model(preset: str) -> None:
    lm = language_model("llama", "sdpa")
    model = rival(lm, preset, prompt="none")
    gates = {"cross_attention": "gate", "llama_adapter": "gates"}[preset]
    getattr(mechanism_of(model), gates).zero_()
    ids, features = questions(), seen(model, 3)
    slots = in_front(model, features)
    assert close(model(ids, features=features).logits[:, slots:], lm(input_ids=ids).logits, 1e-5)


@pytest.mark.parametrize("preset", [name for name in RIVALS if PRESETS[name]["mechanism"] != "promptfuse"])
def test_the_loss_is_that_of_the_logits_and_trains_all_there_is(preset: str) -> None:
    model = rival(language_model("llama", "sdpa"), preset, BOTH)
    rows, mask = padded(questions(length=9), LENGTHS, "right")
    labels = torch.where(mask.bool(), rows, -100)
    features = seen(model, 3)
    logits = model(rows, mask, features=features).logits.detach()
    front = in_front(model, features)
    expected = torch.nn.functional.cross_entropy(
        logits[:, front : front + rows.shape[1] - 1].flatten(0, 1), labels[:, 1:].flatten()
    )
    loss = model(rows, mask, labels, features=features).loss
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-4, atol=1e-5)
    loss.backward()
    for name, parameters in model.trained_parameters().items():
        for parameter in parameters:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            parameter.grad = None
    assert not any(parameter.requires_grad for part in model.frozen_parts().values() for parameter in part.parameters())


@every_rival
@torch.no_grad()
def test_saved_and_loaded_it_is_the_same(preset: str, tmp_path: Path) -> None:
    lm = language_model("llama", "sdpa")
    model = rival(lm, preset, BOTH)
    model.save_pretrained(tmp_path)
    loaded = PerceptualLM.from_pretrained(tmp_path, language_model=lm)
    assert loaded.config == model.config
    features = seen(model, 2)
    ids = questions(2)
    assert torch.equal(loaded(ids, features=features).logits, model(ids, features=features).logits)


@pytest.mark.parametrize("preset", [name for name in RIVALS if name not in ("promptfuse", "limber_1", "llama_adapter")])
@torch.no_grad()
def test_what_stands_in_padding_never_matters(preset: str) -> None:
    model = rival(language_model("llama", "sdpa"), preset, ("audio",))
    ids, features = questions(), seen(model, 3)
    longer = torch.cat([features["audio"].values, torch.full((3, model.levels["audio"], 4, 5), torch.nan)], dim=2)
    mask = torch.cat([features["audio"].mask, torch.zeros(3, 4, dtype=torch.bool)], dim=1)
    if preset == "memvp":
        longer, mask = longer[:, :, : TOKENS["audio"]], mask[:, : TOKENS["audio"]]
    more = {"audio": TokenFeatures.of(longer, mask)}
    expected, found = (model(ids, features=each).logits[:, -ids.shape[1] :] for each in (features, more))
    assert close(found, expected, 1e-5)


@pytest.mark.parametrize("preset", ENTRANCES)
@torch.no_grad()
def test_answers_are_ranked_by_their_likelihood(preset: str) -> None:
    model = rival(language_model("llama", "sdpa"), preset)
    ids, features = questions(2), seen(model, 2)
    answers = [[5, 6, 2], [7, 2], [8, 9, 10, 2]]
    ranked = model.rank(answers, ids, features=features)
    for row in range(2):
        scores = []
        for answer in answers:
            whole = torch.cat([ids[row], torch.tensor(answer)])[None]
            logits = model(whole, features=one_row(features, row)).logits[0, -len(answer) - 1 : -1]
            scores.append(float(logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).sum()))
        assert ranked.best[row] == max(range(3), key=scores.__getitem__)
        assert abs(ranked.log_likelihood[row] - max(scores)) < 1e-2


@every_rival
@torch.no_grad()
def test_int8_serves_it(preset: str) -> None:
    plain = language_model("llama", "sdpa")
    lm = LlamaForCausalLM(plain.config)
    lm.load_state_dict(plain.state_dict())
    model = rival(plain, preset)
    quantised = PerceptualLM.build(
        lm, config=model.config, ready_features=model.perception.feature_cards, quantization="int8"
    ).eval()
    quantised.load_trained_state_dict(model.trained_state_dict())
    ids, features = questions(), seen(model, 3)
    expected, found = (each(ids, features=features).logits for each in (model, quantised))
    assert not torch.equal(found, expected)
    assert found.isfinite().all()


def test_settings_that_mean_nothing_are_refused() -> None:
    lm = language_model("llama", "sdpa")
    with pytest.raises(ConfigError, match=r"adapter\.start: limber_1 has no window"):
        rival(lm, "limber_1", start=2)
    with pytest.raises(ConfigError, match="connector: is a setting of the slot"):
        rival(lm, "mapl", connector="per_level")
    with pytest.raises(ConfigError, match=r"adapter\.levels: mapl reads 1"):
        rival(lm, "mapl", levels=2)
    with pytest.raises(ConfigError, match=r"there is no 'mapll'; did you mean 'mapl'"):
        rival(lm, "mapl", mechanism="mapll")


def test_features_of_another_kind_are_refused() -> None:
    model = rival(language_model("llama", "sdpa"), "limber_all")
    with pytest.raises(DataError, match=r"expected every token, \(B, 1, N, 12\), got \(3, 1, 12\)"):
        model(questions(), features=torch.randn(3, 1, 12))
    one = rival(language_model("llama", "sdpa"), "limber_1")
    with pytest.raises(DataError, match=r"expected \(B, 1, 12\), got \(3, 1, 7, 12\)"):
        one(questions(), features=torch.randn(3, 1, 7, 12))


def test_a_learned_table_must_have_room_for_what_is_in_front() -> None:
    model = rival(language_model("opt-projected", "sdpa"), "mapl")
    assert model.text_limit == 64 - 32
    with pytest.raises(DataError, match=r"65 tokens with what is perceived, .* positions for 64"):
        model(questions(length=33), features=seen(model, 3))
    new = model.generate(questions(length=30), features=seen(model, 3), max_new_tokens=20, **ENDLESS)
    assert new.shape[1] == 3
