"""What pretraining of the toy world's language models rests on: right answers, pages without a passage, guidance."""

import random

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoTokenizer
from transformers.modeling_outputs import CausalLMOutputWithPast

from epalm.runtime.sources import resolve_source
from epalm.toyworld.pages import BOS, Vocabulary, lay_out, write_page
from epalm.toyworld.reading import answers_right, new_reader, read, reading_loss, target_loss, without_passage


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary(AutoTokenizer.from_pretrained(resolve_source("toyworld/lm")))


def test_one_wrong_token_makes_its_answer_wrong_and_no_other(vocabulary):
    rng = random.Random(0)
    pages = [write_page(rng) for _ in range(3)]
    batch = lay_out(pages, vocabulary)
    said = batch.input_ids[:, 1:].clone()
    wrong = batch.answers[1].nonzero().flatten().tolist()[-1]  # the end of the second page's last answer
    said[1, wrong - 1] = BOS + 1
    logits = F.one_hot(F.pad(said, (0, 1)), len(vocabulary.words)).float()
    told = list(answers_right(CausalLMOutputWithPast(logits=logits), batch))
    assert [row for row, _ in told] == [row for row, page in enumerate(pages) for _ in page.asked]
    last = sum(len(page.asked) for page in pages[:2]) - 1
    assert [at for at, (_, right) in enumerate(told) if not right] == [last]


def test_without_its_passage_a_page_asks_the_same_and_guides_no_head(vocabulary):
    rng = random.Random(1)
    pages = [write_page(rng, supposing=0.5) for _ in range(4)]
    with_passage, without = (lay_out(each, vocabulary) for each in (pages, [without_passage(page) for page in pages]))
    learned = [batch.input_ids[batch.weights > 0].tolist() for batch in (with_passage, without)]
    assert learned[0] == learned[1]
    first = vocabulary.encode([f"{page.asked[0].question}?" for page in pages])
    for row, question in enumerate(first):
        assert without.input_ids[row, : len(question) + 1].tolist() == [BOS, *question]
    assert with_passage.sought.any()
    assert not without.sought.any()
    assert not without.checked.any()


def test_guidance_is_added_to_the_loss_by_its_weight(vocabulary):
    torch.manual_seed(0)
    batch = lay_out([write_page(random.Random(2)) for _ in range(2)], vocabulary)
    with torch.no_grad():
        output = read(new_reader(len(vocabulary.words)).eval(), batch)
    plain, some, more = (reading_loss(output, batch, weight) for weight in (0.0, 0.5, 1.0))
    assert plain == target_loss(output, batch)
    assert some - plain > 0.1
    assert torch.allclose(more - plain, 2 * (some - plain))
