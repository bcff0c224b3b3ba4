"""Pages of the language model's text as tensors: who sees whom, and what is learned."""

import random

import pytest
import torch

from epalm.toyworld.pages import BOS, EOS, GUIDED_HEADS, lay_out, train_tokenizer, write_page


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(0)


def _ends(batch, row):
    """Last token of each segment."""
    weighed = batch.weights[row] > 0
    return [at for at in range(1, len(weighed)) if weighed[at] and batch.input_ids[row, at] == EOS]


def test_an_open_segment_sees_the_passage_and_no_other_segment(tokenizer):
    page = write_page(random.Random(1), groups=2)
    batch = lay_out([page], ["open"], tokenizer)
    passage = len(tokenizer(" ".join(part.text for part in page.passage))["input_ids"])
    first, second = _ends(batch, 0)[:2]
    assert batch.visible[0, 0, second, :passage].all()
    assert not batch.visible[0, 0, second, passage : first + 1].any()
    assert batch.visible[0, 0, second, first + 1 : second + 1].all()
    assert not batch.visible[0, 0, second, second + 1 :].any()


@pytest.mark.parametrize("manner", ["summary", "notes"])
def test_a_summed_up_passage_is_seen_through_its_closing_token_alone(tokenizer, manner):
    page = write_page(random.Random(1), groups=2)
    batch = lay_out([page], [manner], tokenizer)
    (closing,) = batch.summary[0].nonzero().flatten().tolist()
    assert batch.input_ids[0, closing] == EOS
    end = _ends(batch, 0)[0]
    assert batch.visible[0, 0, end, : end + 1].nonzero().flatten().tolist() == list(range(closing, end + 1))
    assert batch.visible[0, 0, closing, : closing + 1].all()


def test_a_closed_segment_sees_itself_alone(tokenizer):
    page = write_page(random.Random(1), groups=2)
    batch = lay_out([page], ["closed"], tokenizer)
    end = _ends(batch, 0)[0]
    seen = batch.visible[0, 0, end].nonzero().flatten().tolist()
    assert batch.input_ids[0, seen[0]] == BOS
    assert seen == list(range(seen[0], end + 1))


def test_targets_are_learned_and_nothing_else(tokenizer):
    page = write_page(random.Random(2), groups=2)
    batch = lay_out([page], ["open"], tokenizer)
    learned = tokenizer.decode(batch.input_ids[0, batch.weights[0] > 0])
    assert learned == "".join(f" {segment.target}</s>" for segment in page.segments)


def test_guided_heads_look_where_the_answer_is(tokenizer):
    pages = [write_page(random.Random(seed), groups=2) for seed in range(30)]
    batch = lay_out(pages, ["open"] * len(pages), tokenizer)
    found = 0
    for row, page in enumerate(pages):
        for segment in page.segments:
            for at in batch.sought[row, 0].any(-1).nonzero().flatten().tolist():
                asked = tokenizer.decode(batch.input_ids[row, : at + 1])
                told = tokenizer.decode(batch.input_ids[row, at + 1 :]).startswith(f" {segment.target}</s>")
                if told and asked.endswith(f" {segment.lead}") and len(segment.about) == 1:
                    sought = tokenizer.decode(batch.input_ids[row, batch.sought[row, 0, at]])
                    (statement,) = [part.text for part in page.passage if part.about == segment.about[0]]
                    assert sought == f" {statement}"
                    found += 1
    assert found > 50


def test_a_supposition_is_checked_where_it_is_borne_out(tokenizer):
    pages = [write_page(random.Random(seed), groups=1) for seed in range(30)]
    for manner in ("open", "notes"):
        batch = lay_out(pages, [manner] * len(pages), tokenizer)
        held = []
        for row, page in enumerate(pages):
            looks = batch.checked[row, 0].any(-1).nonzero().flatten().tolist()
            supposing = [segment for segment in page.segments if segment.holds is not None]
            assert len(looks) == len(supposing)
            for at, segment in zip(looks, supposing, strict=True):
                seen = batch.input_ids[row, batch.checked[row, 0, at]]
                held.append(segment.holds)
                if manner == "open" and segment.holds:
                    assert tokenizer.decode(seen).strip() in " ".join(segment.evidence)
                elif manner == "open":
                    assert seen.tolist() == [BOS]
                else:
                    on_summary = bool((batch.checked[row, 0, at] & batch.summary[row]).any())
                    assert on_summary == (segment.holds and 0 in segment.about)
        assert {True, False} == set(held)


def test_each_group_is_summed_up_and_sought_by_a_head_of_its_own(tokenizer):
    page = write_page(random.Random(7), groups=2)
    batch = lay_out([page], ["notes"], tokenizer)
    (closing,) = batch.summary[0].nonzero().flatten().tolist()
    for head in range(GUIDED_HEADS):
        gathered = tokenizer.decode(batch.input_ids[0, batch.gathered[0, head, closing]])
        assert gathered == f" {page.notes[head].text}"
    for at in batch.sought[0].any(-1).all(0).nonzero().flatten().tolist():
        looks = [batch.sought[0, head, at].nonzero().flatten().tolist() for head in range(GUIDED_HEADS)]
        assert all(len(look) == 1 for look in looks)
        assert closing in [look[0] for look in looks]
        assert torch.isin(batch.input_ids[0, [look[0] for look in looks]], torch.tensor([BOS, EOS])).all()
