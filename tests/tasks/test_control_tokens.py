"""Control tokens come from templates alone: what looks like one in data is plain text, and is read back as such."""

import random

import pytest
from tiny_tokenizers import KINDS, chat, gpt2_like, opt_like, sentencepiece_like
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast

from epalm.data import Row
from epalm.errors import DataError
from epalm.tasks import Captioning, QuestionAnswering, TextTemplate
from epalm.tasks.template import FORMER_TEXT

FORMER = TextTemplate(**FORMER_TEXT)
TEXTS = ["html </s> tag", "<s>a<unk>", "</s>", "a <pad> <|im_start|>b<|im_end|></think><think>", "< /s>", "is it </s>a"]


@pytest.fixture(params=[*KINDS, "slow"])
def tokenizer(request, tmp_path):
    if request.param == "slow":
        return ByT5Tokenizer()
    KINDS[request.param][0]().save_pretrained(tmp_path)
    return AutoTokenizer.from_pretrained(tmp_path)


def _target(task, text):
    return task.encode(Row({}, None if task.name == "captioning" else "what?", (text,)), random.Random(0)).target_ids


def _control(tokenizer, ids):
    added = tokenizer.added_tokens_decoder.items()
    names = {*tokenizer.all_special_tokens, "<think>"}
    special = {number for number, token in added if token.special or token.content in names}
    return [number for number in ids if number in special]


@pytest.mark.parametrize("text", TEXTS)
def test_what_data_hold_is_text(tokenizer, text):
    for task in (Captioning(tokenizer), QuestionAnswering(tokenizer)):
        target = _target(task, text)
        assert _control(tokenizer, target) == [tokenizer.eos_token_id]  # at the end
        assert task.read_ids(target) == text
    task, front = QuestionAnswering(tokenizer), QuestionAnswering(tokenizer).prompt_ids("what")
    prompt = task.prompt_ids(text)
    assert _control(tokenizer, prompt) == _control(tokenizer, front)
    assert tokenizer.decode(prompt[len(_control(tokenizer, front)) :]) == f"{text}?"


def test_ordinary_text_is_tokenised_as_before(tokenizer):
    for text in ("a red bus", "naïve 日本語 🦓", "1 < 2 > 0", "<br> a", "  x"):
        for task in (Captioning, QuestionAnswering):
            assert _target(task(tokenizer), text) == _target(task(tokenizer, FORMER), text)
        assert QuestionAnswering(tokenizer).prompt_ids(text) == QuestionAnswering(tokenizer, FORMER).prompt_ids(text)


class _WithoutAddedTokens:
    """As transformers' for mistral-common, whose `added_tokens_decoder` is a method that gives nothing."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def __call__(self, *args, **options):
        return self._tokenizer(*args, **options)

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def added_tokens_decoder(self):
        raise NotImplementedError


def test_a_tokenizer_need_not_list_its_added_tokens(tokenizer):
    task = Captioning(_WithoutAddedTokens(tokenizer))
    assert task.read_ids(_target(task, "html </s> tag")) == "html </s> tag"


def test_adapters_that_do_not_name_the_setting_keep_their_way(tokenizer):
    assert _target(Captioning(tokenizer, FORMER), "a</s>b").count(tokenizer.eos_token_id) == 2


def test_control_tokens_of_a_template_stay():
    tokenizer = chat()
    template = TextTemplate(question_format="<|im_start|>{question}?<|im_end|><think>", caption_cue="<|im_start|>")
    task, (start, end, think) = QuestionAnswering(tokenizer, template), range(304, 307)
    plain = tokenizer.decode(task.prompt_ids("is a <|im_end|><think> red"))
    assert plain == "<|im_start|>is a <|im_end|><think> red?<|im_end|><think>"
    for question in ("is it red", "is a <|im_end|><think> red", "<|im_start|>"):
        assert _control(tokenizer, task.prompt_ids(question)) == [start, end, think]
    assert task.prompt_ids("is it red") == tokenizer(template.ask("is it red"), add_special_tokens=False).input_ids
    assert Captioning(tokenizer, template).prompt_ids() == [start]


def test_an_answer_mark_that_the_tokenizer_has():
    tokenizer = opt_like()
    tokenizer.add_tokens(["</a>"])
    task = QuestionAnswering(tokenizer, TextTemplate(answer_mark="</a>", mark_is_token=True))
    mark = tokenizer.convert_tokens_to_ids("</a>")
    prompt, target = task.encode(Row({}, "a link </a>?", ("b </a>",)), random.Random(0))
    assert (prompt.count(mark), prompt[-1], target.count(mark)) == (1, mark, 0)
    assert task.read_ids(target) == "b </a>"


@pytest.mark.parametrize("make", [opt_like, sentencepiece_like])
def test_begin_of_text_in_a_template_is_not_doubled(make):
    tokenizer = make()
    bos = tokenizer.bos_token
    templates = [TextTemplate(question_format=bos + "{question}?", caption_cue=bos + text) for text in ("", "a")]
    for template in templates:
        for task in (QuestionAnswering(tokenizer, template), Captioning(tokenizer, template)):
            ids = task.prompt_ids("what" if task.name == "question_answering" else None)
            assert (ids[0], ids.count(1)) == (1, 1)
    old = TextTemplate(caption_cue=bos, **FORMER_TEXT)
    assert Captioning(tokenizer, old).prompt_ids() == [1, 1]


def test_what_a_tokenizer_of_words_does_not_know_is_no_end():
    words = Tokenizer(models.WordLevel({"</s>": 0, "red": 1, "bus": 2}, unk_token="</s>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    task = Captioning(PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", unk_token="</s>"))
    assert _target(task, "red zebra </s> bus") == [1, 2, 0]


def test_a_tokenizer_that_cannot_is_refused_in_one_line():
    task = QuestionAnswering(ByT5Tokenizer(), TextTemplate(question_format="<extra_id_0>{question}?"))
    message = r"^row 3: 'what </s>' holds </s>, which the tokenizer can only write as a control token; take it out$"
    with pytest.raises(DataError, match=message):
        task.encode(Row({}, "what </s>", ("a",), number=3), random.Random(0))


@pytest.mark.parametrize("make", [gpt2_like, sentencepiece_like])
def test_an_answer_that_was_cut_ends_before_a_broken_character(make):
    task = Captioning(make())
    *target, end = _target(task, "ab 日本")
    assert len(target) > 6
    for length in range(len(target) + 1):
        text = task.read_ids(target[:length])
        assert "ab 日本".startswith(text)
    assert text == "ab 日本"
    assert task.read_ids([*_target(task, "a �")[:-1], end]) == "a �"  # what was meant
