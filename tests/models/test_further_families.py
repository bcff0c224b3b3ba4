"""What must always hold, for families that one test each proves; `test_families` has every rule alone."""

from __future__ import annotations

import itertools

import pytest
import torch
from families import (
    FURTHER_FAMILIES,
    LAYERS,
    LENGTHS,
    SIDES,
    augmented,
    features,
    front,
    language_model,
    of_rows,
    padded,
    perceived,
    perceiving,
    text,
    with_other_last_tokens,
)
from torch import nn

ROUNDED = {"qwen3_moe": 2e-6, "gpt_oss": 2e-6, "gemma4-moe": 2e-6}
"""An expert multiplies all tokens at once that chose it: what another token chose may move a result by a rounding."""


@pytest.mark.parametrize("family", FURTHER_FAMILIES)
def test_a_further_family_keeps_every_rule(family: str) -> None:
    lm = language_model(family)
    with torch.no_grad():
        without_perception_it_is_the_plain_model_to_the_bit(lm)
        every_text_token_sees_the_slot_itself(lm)
        model = perceiving(lm, "image and audio")
        no_token_sees_a_later_one_and_rows_are_what_they_are_alone(model, ROUNDED.get(family, 0))
        cached_is_uncached_and_what_a_row_gets_alone(model)
    loss_and_gradients_need_no_logits(model)


def without_perception_it_is_the_plain_model_to_the_bit(lm) -> None:
    model = augmented(lm, prompt="none")
    ids, mask = padded(text(), LENGTHS, "left")
    assert torch.equal(model(ids, mask).logits, lm(input_ids=ids, attention_mask=mask).logits)
    plain = lm.generate(input_ids=ids, attention_mask=mask, max_new_tokens=2, do_sample=False)
    assert torch.equal(model.generate(ids, mask, max_new_tokens=2, do_sample=False), plain[:, ids.shape[1] :])


def every_text_token_sees_the_slot_itself(lm) -> None:
    model = augmented(lm, start=LAYERS - 1, end=LAYERS, levels=1)
    first, second = (model(text(), features=features(3, seed)[:, :1]).logits for seed in (2, 5))
    assert ((first - second)[:, front(model) :].abs().amax(-1) > 1e-4).all()


def no_token_sees_a_later_one_and_rows_are_what_they_are_alone(model, rounded: float) -> None:
    given = perceived(model, 3)
    alone = [
        model(text()[row : row + 1, :length], features=of_rows(given, slice(row, row + 1))).logits[0]
        for row, length in enumerate(LENGTHS)
    ]
    for side in SIDES:
        ids, mask = padded(text(), LENGTHS, side)
        changed, last = with_other_last_tokens(ids, side)
        before, after = (model(each, mask, features=given).logits for each in (ids, changed))
        for row, (column, length) in enumerate(zip(last, LENGTHS, strict=True)):
            until = front(model) + column
            torch.testing.assert_close(after[row, :until], before[row, :until], rtol=0, atol=rounded)
            assert (after[row, until] - before[row, until]).abs().max() > 1e-4
            found = before[row, until + 1 - length : until + 1]
            torch.testing.assert_close(found, alone[row][front(model) :], rtol=0, atol=1e-5)


def cached_is_uncached_and_what_a_row_gets_alone(model) -> None:
    given, (ids, mask) = perceived(model, 3), padded(text(), LENGTHS, "left")
    for beams in (1, 3):
        how = {"num_beams": beams, "max_new_tokens": 4, "eos_token_id": None}
        cached, uncached = (
            model.generate(ids, mask, features=given, use_cache=use_cache, **how) for use_cache in (True, False)
        )
        assert torch.equal(cached, uncached), beams
        row, length = 1, LENGTHS[1]
        alone = model.generate(text()[1:2, :length], features=of_rows(given, slice(1, 2)), **how)
        assert torch.equal(alone[0], cached[row]), beams


def loss_and_gradients_need_no_logits(model) -> None:
    given, (ids, mask) = perceived(model, 3), padded(text(), LENGTHS, "left")
    results = []
    for skip in (False, True):
        model.train().zero_grad()
        output = model(ids, mask, ids, features=given, skip_logits=skip)
        output.loss.backward()
        results.append((output.loss.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        logits = model(ids, mask, features=given).logits[:, front(model) :]
    pairs = [
        (logits[row, before], ids[row, after])
        for row in range(len(ids))
        for before, after in itertools.pairwise(mask[row].nonzero().flatten().tolist())
    ]
    expected = nn.functional.cross_entropy(torch.stack([each for each, _ in pairs]), torch.stack([t for _, t in pairs]))
    torch.testing.assert_close(results[0][0], expected, rtol=1e-5, atol=1e-6)
