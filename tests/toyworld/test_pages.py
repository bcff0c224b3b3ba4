"""Pages of the language model's text as tensors: who sees whom, what is learned, and where heads are shown to look."""

import random

import pytest
import torch

from epalm.toyworld.condensed import SLOTS, Condenser, Slots, condense, draw_example, lay_out_examples
from epalm.toyworld.pages import BOS, EOS, Vocabulary, lay_out, train_tokenizer, write_page
from epalm.toyworld.worlds import NAMES


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary(train_tokenizer(0))


def _page(seed, **options):
    """A page that has a caption and several statements."""
    rng = random.Random(seed)
    while (page := write_page(rng, **options)).caption is None or len(page.passage) < 2:
        pass
    return page


def _ends(batch, row):
    """Last token of each segment."""
    weighed = batch.weights[row] > 0
    return [at for at in range(1, len(weighed)) if weighed[at] and batch.input_ids[row, at] == EOS]


def test_every_name_is_one_token(vocabulary):
    assert set(vocabulary.words) >= NAMES


def test_a_segment_sees_the_passage_and_no_other_segment(vocabulary):
    page = _page(1)
    batch = lay_out([page], vocabulary)
    passage = len(vocabulary.tokenizer(" ".join(part.text for part in page.passage))["input_ids"])
    first, second = _ends(batch, 0)[:2]
    assert batch.visible[0, 0, second, :passage].all()
    assert not batch.visible[0, 0, second, passage : first + 1].any()
    assert batch.visible[0, 0, second, first + 1 : second + 1].all()
    assert not batch.visible[0, 0, second, second + 1 :].any()


def test_targets_are_learned_and_nothing_else(vocabulary):
    page = _page(2)
    batch = lay_out([page], vocabulary)
    learned = vocabulary.tokenizer.decode(batch.input_ids[0, batch.weights[0] > 0])
    assert learned == "".join(
        f" {target}</s>" for target in [*(example.answer for example in page.asked), page.caption]
    )


def test_guided_heads_look_where_the_answer_is(vocabulary):
    decode = vocabulary.tokenizer.decode
    pages = [_page(seed) for seed in range(30)]
    batch = lay_out(pages, vocabulary)
    found = 0
    for row, page in enumerate(pages):
        for asked in page.asked:
            for at in batch.sought[row, 0].any(-1).nonzero().flatten().tolist():
                before = decode(batch.input_ids[row, : at + 1])
                answered = decode(batch.input_ids[row, at + 1 :]).startswith(f" {asked.answer}</s>")
                if answered and before.endswith(f" {asked.question}?") and len(asked.about) == 1:
                    (statement,) = [part.text for part in page.passage if part.about == asked.about[0]]
                    assert decode(batch.input_ids[row, batch.sought[row, 0, at]]) == f" {statement}"
                    found += 1
    assert found > 50


def test_a_supposition_is_checked_where_it_is_borne_out(vocabulary):
    pages = [_page(seed, supposing=0.5) for seed in range(30)]
    batch = lay_out(pages, vocabulary)
    held = set()
    for row, page in enumerate(pages):
        looks = batch.checked[row, 0].any(-1).nonzero().flatten().tolist()
        supposing = [asked for asked in page.asked if asked.holds is not None and (asked.about or not asked.holds)]
        assert len(looks) == len(supposing)
        for at, asked in zip(looks, supposing, strict=True):
            seen = batch.input_ids[row, batch.checked[row, 0, at]]
            held.add(asked.holds)
            if asked.holds:
                assert set(vocabulary.tokenizer.decode(seen).split()) <= set(asked.evidence)
            else:
                assert seen.tolist() == [BOS]
    assert held == {True, False}


# --- condensed --------------------------------------------------------------------------------------------------------


def test_what_is_told_sees_its_own_slots_and_slots_see_themselves(vocabulary):
    rng = random.Random(3)
    examples = [draw_example(rng, 0.3) for _ in range(200)]
    batch = lay_out_examples(examples, vocabulary)
    assert {len(example.notes) for example in examples} == {1, 2}
    for row, example in enumerate(examples):
        end = int((batch.weights[row] > 0).nonzero().max())
        assert batch.visible[row, 0, end, :SLOTS].sum() == (0 if example.blind else len(example.notes))
        assert batch.visible[row, 0, end, SLOTS : end + 1].all()
        assert torch.equal(batch.visible[row, 0, :SLOTS], torch.eye(batch.visible.shape[-1], dtype=torch.bool)[:SLOTS])
        learned = vocabulary.tokenizer.decode(batch.input_ids[row, batch.weights[row] > 0])
        assert learned == f" {example.asked.answer if example.asked else example.caption}</s>"


def test_the_head_of_the_group_that_is_meant_looks_at_the_slot(vocabulary):
    rng = random.Random(4)
    examples = [
        example
        for example in (draw_example(rng, 0.0) for _ in range(400))
        if example.asked and len(example.asked.about) == 1
    ]
    batch = lay_out_examples(examples, vocabulary)
    looked = 0
    for row, example in enumerate(examples):
        at = int((batch.weights[row] > 0).nonzero().min()) - 1
        (number,) = example.asked.about
        if not example.blind and number < 2:
            seen = [batch.sought[row, head, at].nonzero().flatten().tolist() for head in range(2)]
            assert seen == [[0 if head == number else SLOTS] for head in range(2)]
            looked += 1
    assert looked > 100


def test_notes_that_differ_are_condensed_differently():
    condenser = Condenser(32)
    rng = random.Random(5)
    examples = [draw_example(rng, 0.0) for _ in range(60)]
    vectors = condense(examples, condenser)
    assert vectors.shape == (60, SLOTS, 32)
    same = (vectors[:, None] - vectors[None]).abs().amax((-2, -1)) < 1e-5
    for a, example in enumerate(examples):
        for b, other in enumerate(examples):
            assert bool(same[a, b]) == (example.notes == other.notes)


def test_slots_are_filled_wherever_a_layer_is_entered():
    layers = [torch.nn.Identity().eval() for _ in range(2)]
    slots = Slots(layers, noise=0.5, mixture=0.0)
    hidden = torch.zeros(3, 5, 4)
    assert torch.equal(layers[0](hidden), hidden)
    slots.vectors = torch.randn(3, SLOTS, 4)
    for layer in layers:
        assert torch.equal(layer(hidden)[:, :SLOTS], slots.vectors)
        assert torch.equal(layer(hidden)[:, SLOTS:], hidden[:, SLOTS:])
    assert not torch.equal(layers[0].train()(hidden)[:, :SLOTS], slots.vectors)
