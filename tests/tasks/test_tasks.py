"""Tasks over tokenizers of several kinds."""

import random
from collections import Counter
from pathlib import Path

import pytest
from tiny_tokenizers import KINDS, byte_level, gpt2_like, opt_like
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from epalm.data import Row
from epalm.data.collate import collate
from epalm.errors import DataError, UnsupportedModelError
from epalm.metrics import computable, score
from epalm.tasks import TASKS, Captioning, QuestionAnswering, Tasks, TextTemplate

UNSEEN = ["zebra", "quokka's", "naïve", "日本語", "x" * 200, "🦓", "1,234.5", "( - )"]
QUESTION = Row({"image": Path("a.png")}, "what colour is the bus?", ("red",))
CAPTION = Row({"image": Path("a.png")}, None, ("a red bus",))


@pytest.fixture(params=KINDS)
def kind(request):
    make, *fronts = KINDS[request.param]
    return make(), *fronts


@pytest.fixture
def tokenizer(kind):
    return kind[0]


def _plain(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def test_a_question_and_its_answer(kind):
    tokenizer, front, _ = kind
    prompt, target = QuestionAnswering(tokenizer).encode(QUESTION, random.Random(0))
    assert prompt[: len(front)] == front
    assert target[-1] == tokenizer.eos_token_id
    assert tokenizer.eos_token_id not in [*prompt[len(front) :], *target[:-1]]
    assert _plain(tokenizer, prompt + target) == "what colour is the bus? red"


def test_parted_tokens_are_those_of_the_whole_text(kind):
    """Tokenised apart, the text reads to the language model as text does."""
    tokenizer, front, _ = kind
    prompt, target = QuestionAnswering(tokenizer).encode(QUESTION, random.Random(0))
    whole = tokenizer("what colour is the bus? red", add_special_tokens=False).input_ids
    assert [*prompt[len(front) :], *target[:-1]] == whole


def test_a_caption(kind):
    tokenizer, _, front = kind
    prompt, target = Captioning(tokenizer).encode(CAPTION, random.Random(0))
    assert prompt == front
    assert target == [*tokenizer("a red bus", add_special_tokens=False).input_ids, tokenizer.eos_token_id]


def test_a_caption_after_a_cue(tokenizer):
    template = TextTemplate(caption_cue="here is ")
    prompt, target = Captioning(tokenizer, template).encode(CAPTION, random.Random(0))
    assert _plain(tokenizer, prompt + target) == "here is a red bus"
    assert _plain(tokenizer, target).strip() == "a red bus"


def test_after_a_line_break_no_space(tokenizer):
    template = TextTemplate(answer_mark="\nA:\n")
    prompt, target = QuestionAnswering(tokenizer, template).encode(QUESTION, random.Random(0))
    text = _plain(tokenizer, prompt + target)
    assert text.replace("\n ", "\n") == "what colour is the bus?\nA:\nred"


@pytest.mark.parametrize("answer", UNSEEN)
def test_words_never_seen(tokenizer, answer):
    task = QuestionAnswering(tokenizer)
    row = Row({}, f"is it {answer}?", (answer,))
    prompt, target = task.encode(row, random.Random(0))
    assert _plain(tokenizer, prompt + target) == f"is it {answer}? {answer}"
    assert task.read_ids(target) == answer
    assert Captioning(tokenizer).read_ids(target) == answer


def test_a_tokenizer_of_whole_words_meets_a_word_it_has_not():
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1, "red": 2, "what": 3}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    task = QuestionAnswering(PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>"))
    assert task.encode(Row({}, "what zebra?", ("red",)), random.Random(0)) == ([3, 0, 0], [2, 1])


def test_generation_starts_where_training_does(tokenizer):
    tasks = Tasks(tokenizer, TextTemplate(answer_mark=" Answer:"))
    for row in (QUESTION, CAPTION):
        encoded = tasks.encode(row, random.Random(0))
        assert tasks.prompt_ids(row) == encoded.prompt_ids != []
        assert tasks.of(row).read_ids([*encoded.target_ids, 5, 6, 7]) == row.targets[0]


def test_line_breaks_within_a_target_become_spaces(tokenizer):
    row = Row({}, None, ("a red\n  bus",))
    task = Captioning(tokenizer)
    assert task.read_ids(task.encode(row, random.Random(0)).target_ids) == "a red bus"


def test_pad_and_end_tokens():
    assert (Tasks(opt_like()).pad_id, Tasks(opt_like()).eos_id) == (0, 1)
    assert (Tasks(gpt2_like()).pad_id, Tasks(gpt2_like()).eos_id) == (1, 1)


def test_a_tokenizer_that_cannot_end_a_text():
    with pytest.raises(UnsupportedModelError, match=r"no end-of-text token.*set tokenizer\.eos_token"):
        Tasks(PreTrainedTokenizerFast(tokenizer_object=byte_level()))
    with pytest.raises(UnsupportedModelError, match="no tokenizer beside it"):
        Tasks(None)


def test_answers_are_drawn_by_their_soft_score():
    task = QuestionAnswering(gpt2_like())
    generator = random.Random(5)

    def shares(row):
        counts = Counter(task.draw(row, generator) for _ in range(6000))
        return {answer: count / 6000 for answer, count in counts.items()}

    assert shares(Row({}, "q", ("red", "blue"), (0.9, 0.3))) == pytest.approx({"red": 0.75, "blue": 0.25}, abs=0.03)
    # Ten people: 8 say red (score 1), 2 say blue (score 0.6).
    people = ("red",) * 8 + ("blue",) * 2
    assert shares(Row({}, "q", people)) == pytest.approx({"red": 1 / 1.6, "blue": 0.6 / 1.6}, abs=0.03)


def test_the_same_generator_draws_the_same_answers():
    task = QuestionAnswering(gpt2_like())
    row = Row({}, "q", tuple("abcdefgh"))
    draws = [[task.draw(row, generator) for _ in range(20)] for generator in (random.Random(3), random.Random(3))]
    assert draws[0] == draws[1]


def test_every_caption_is_a_row_and_every_question_one():
    captions = Row({"image": Path("a.png")}, None, ("a", "b"), None, "7", 3)
    question = Row({}, "q", ("x", "y"))
    expanded = Tasks(gpt2_like()).expand([captions, question])
    assert [row.targets for row in expanded] == [("a",), ("b",), ("x", "y")]
    assert {(row.id, row.number) for row in expanded[:2]} == {("7", 3)}


def test_a_row_without_a_target_cannot_be_trained_on():
    with pytest.raises(DataError, match=r"^row 9: has no answer or caption"):
        Tasks(gpt2_like()).encode(Row({}, "q", number=9), random.Random(0))
    with pytest.raises(DataError, match=r"^row 42: has no answer or caption"):
        Tasks(gpt2_like()).encode(Row({}, "q", ("x",), (0.0,), id="42"), random.Random(0))


@pytest.mark.parametrize(
    ("generated", "answer", "caption"),
    [
        (" red", "red", "red"),
        (" Red.\nQuestion: what", "Red", "Red."),
        ("\n\n a dog . \n", "a dog", "a dog ."),
        ("", "", ""),
        (" \n ", "", ""),
        ("2.5", "2.5", "2.5"),
    ],
)
def test_the_answer_is_cut_out_of_what_was_generated(generated, answer, caption):
    tokenizer = gpt2_like()
    assert QuestionAnswering(tokenizer).read_answer(generated) == answer
    assert Captioning(tokenizer).read_answer(generated) == caption


def test_metrics_and_references_fit_together():
    tasks = Tasks(gpt2_like())
    single = [QUESTION, Row({}, "q", ("blue",))]
    people = [Row({}, "q", ("red",) * 10), Row({}, "q", ("red", "blue"), (0.6, 0.3))]
    for rows, headline in ((single, "exact_match"), (people, "vqa_accuracy"), ([CAPTION, CAPTION], "cider")):
        task = tasks.of(rows[0])
        names = task.metrics_for(rows)
        assert names[0] == headline
        names, _ = computable(names, java=False)
        assert names[0] == headline
        found = score(names, ["red", "red"], [task.references(row) for row in rows])
        assert list(found) == list(names)
    assert score(["vqa_accuracy"], ["red", "red"], [tasks.of(row).references(row) for row in people]) == {
        "vqa_accuracy": 80.0
    }


def test_tasks_by_name():
    assert {"captioning": Captioning, "question_answering": QuestionAnswering} == TASKS
    assert {TASKS[row.task].name for row in (CAPTION, QUESTION)} == set(TASKS)


def test_wrong_use_is_refused():
    with pytest.raises(ValueError, match="needs a question"):
        QuestionAnswering(gpt2_like()).prompt()
    with pytest.raises(ValueError, match="takes no question"):
        Captioning(gpt2_like()).prompt("what?")


def test_encoded_rows_make_a_batch(tokenizer):
    tasks = Tasks(tokenizer)
    encoded = [tasks.encode(row, random.Random(0)) for row in (QUESTION, CAPTION)]
    batch = collate(encoded, tasks.pad_id)
    for row, (_, target) in enumerate(encoded):
        assert batch.labels[row][batch.labels[row] >= 0].tolist() == target
