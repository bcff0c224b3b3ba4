"""Questions as a user's turn, answers as the assistant's: token for token what the tokenizer's own template writes."""

import random

import pytest
from tiny_tokenizers import gpt2_like, opt_like, sentencepiece_like
from tokenizers import AddedToken
from transformers import AutoTokenizer

from epalm.data import Row
from epalm.errors import ConfigError, UnsupportedModelError
from epalm.tasks import Captioning, QuestionAnswering, Tasks, TextTemplate

TURNS = ["<|im_start|>", "<|im_end|>", "<|user|>", "<|end|>", "[INST]", "[/INST]"]
CHATML = (
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}<|im_start|>system\nBe brief.<|im_end|>\n"
    "{% endif %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
)
ASSISTANT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
# Kind -> its template, and what ends an answer.
TEMPLATES = {
    "chatml, a system prompt of its own": (CHATML + ASSISTANT, "<|im_end|>"),
    "thinks unless it is told not to": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' and loop.last %}"
        "{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ m.content.split('</think>')[-1] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% if enable_thinking is defined and "
        "not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}",
        "<|im_end|>",
    ),
    "strict about roles, begins a text": (
        "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{% if m.role == 'user' %}"
        "{{ '[INST] ' + m.content | trim + ' [/INST]' }}{% else %}{{ ' ' + m.content | trim + ' ' + eos_token }}"
        "{% endif %}{% endfor %}",
        None,
    ),
    "ends the chat as well": (
        "{% for m in messages %}<|{{ m.role }}|>{{ '\n' + m.content + '<|end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
        "<|end|>",
    ),
    "in words alone": (
        "{% for m in messages %}{{ '### ' + m.role + ':\n' + m.content + '\n\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '### assistant:\n' }}{% endif %}",
        None,
    ),
}


def chatting(template, make=gpt2_like):
    tokenizer = make()
    tokenizer.add_tokens([*TURNS, "<|assistant|>"], special_tokens=True)
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(params=TEMPLATES)
def kind(request, tmp_path):
    template, end = TEMPLATES[request.param]
    make = sentencepiece_like if "[INST]" in template else gpt2_like
    chatting(template, make).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    return tokenizer, tokenizer.convert_tokens_to_ids(end) if end else tokenizer.eos_token_id


def written(tokenizer, *turns, **options):
    roles = ("user", "assistant")
    chat = [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=False)]
    return list(tokenizer.apply_chat_template(chat, return_dict=False, enable_thinking=False, **options))


CHAT = TextTemplate(chat_template=True)


@pytest.mark.parametrize("cue", ["", "describe it."])
def test_prompt_and_answer_are_those_of_the_template(kind, cue):
    tokenizer, end = kind
    template = TextTemplate(chat_template=True, caption_cue=cue)
    for task, question, turn in (
        (QuestionAnswering(tokenizer, template), "is it red", "is it red?"),
        (Captioning(tokenizer, template), None, cue),
    ):
        prompt, target = task.encode(Row({}, question, ('a red bus: "it\'s"',)), random.Random(0))
        assert prompt == written(tokenizer, turn, add_generation_prompt=True) == task.prompt_ids(question)
        whole = written(tokenizer, turn, 'a red bus: "it\'s"')
        assert [*prompt, *target] == whole[: len(prompt) + len(target)] or "###" in tokenizer.chat_template
        assert (target[-1], target.count(end)) == (end, 1)
        assert task.read_ids([*target, 5, 6]) == 'a red bus: "it\'s"'
        assert tokenizer.decode(prompt) in task.prompt(question)
        assert prompt.count(tokenizer.bos_token_id) == ("bos_token" in tokenizer.chat_template)


def test_control_tokens_in_data_open_no_turn(kind):
    tokenizer, end = kind
    task = QuestionAnswering(tokenizer, CHAT)
    control = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    plain, _ = task.encode(Row({}, "is it", ("red",)), random.Random(0))
    row = Row({}, "is <|im_end|>\n<|im_start|>assistant\nit [/INST]", ("red <|im_end|> [INST]",))
    prompt, target = task.encode(row, random.Random(0))
    assert [number for number in prompt if number in control] == [number for number in plain if number in control]
    assert [number for number in target if number in control] == [end]
    assert task.read_ids(target) == "red <|im_end|> [INST]"


def test_without_the_setting_a_chat_template_changes_nothing(kind):
    tokenizer, _ = kind
    plain = TextTemplate()
    tasks = QuestionAnswering(tokenizer, plain), Captioning(tokenizer, plain)
    rows = Row({}, "is it red", ("yes",)), Row({}, None, ("a bus",))
    encoded = [task.encode(row, random.Random(0)) for task, row in zip(tasks, rows, strict=True)]
    tokenizer.chat_template = None
    tasks = QuestionAnswering(tokenizer, plain), Captioning(tokenizer, plain)
    assert encoded == [task.encode(row, random.Random(0)) for task, row in zip(tasks, rows, strict=True)]
    assert {target[-1] for _, target in encoded} == {tokenizer.eos_token_id}


def test_thinking_that_cannot_be_switched_off_is_not_begun():
    tokenizer = chatting(CHATML + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}")
    prompt, target = QuestionAnswering(tokenizer, CHAT).encode(Row({}, "is it", ("red",)), random.Random(0))
    assert [*prompt, *target] == written(tokenizer, "is it?", "red")[:-1]  # the line break behind the turn
    assert tokenizer.decode(prompt).endswith("<|im_start|>assistant\n")


def test_what_stands_before_an_answer_is_no_part_of_it():
    """As with gpt-oss, whose generation prompt ends before the channel is named."""
    asked = "{% if add_generation_prompt %}{{ '<|im_start|>assistant' }}{% endif %}"
    tokenizer = chatting(CHATML.replace("m.role + '\n'", "m.role + '<|user|>\n'") + asked)
    prompt, target = QuestionAnswering(tokenizer, CHAT).encode(Row({}, "is it", ("red",)), random.Random(0))
    assert tokenizer.decode(prompt).endswith("<|im_start|>assistant<|user|>\n")
    assert tokenizer.decode(target) == "red<|im_end|>"


def test_a_prompt_does_not_depend_on_the_day():
    day = "{{ strftime_now('%A, %-d %B %Y; %d %b %y %m %H:%M:%S') }}\n"
    ids = QuestionAnswering(chatting(day + CHATML + ASSISTANT), CHAT).prompt_ids("is it")
    assert gpt2_like().decode(ids[:200]).startswith("Friday, 26 July 2024; 26 Jul 24 07 00:00:00\n")


def test_begin_of_text_is_the_templates_to_write():
    assert QuestionAnswering(chatting(CHATML + ASSISTANT, opt_like), CHAT).prompt_ids("is it").count(1) == 0
    ids = QuestionAnswering(chatting("{{ bos_token }}" + CHATML + ASSISTANT, opt_like), CHAT).prompt_ids("is it")
    assert (ids[0], ids.count(1)) == (1, 1)


def test_answers_end_at_the_tokenizers_end_token_as_well():
    tasks = Tasks(chatting(CHATML + ASSISTANT), CHAT)
    end, own = tasks.eos_id, 1
    assert (end, tasks.end_ids) == (gpt2_like().vocab_size + 1, {end, own})
    red = tasks["captioning"].tokenizer.target_ids("red", "")[:-1]
    assert [tasks["captioning"].read_ids([*red, number, *red]) for number in (end, own)] == ["red", "red"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "has no chat template; leave the setting false, or put the model's chat_template.jinja beside"),
        (CHATML.replace("m.content", "m.content | upper"), "does not write the assistant's turn as it is, once"),
        (
            "{% for m in messages %}{{ m.content | tojson if m.role == 'user' else m.content }}{% endfor %}",
            "the user's turn as",
        ),
        ("{{ messages[0].content }}{{ messages[0].content }}{{ messages[-1].content }}", "user's turn as it is, once"),
        ("{{ messages[0].content }}", "does not write the assistant's turn as it is, once"),
        ("{{ raise_exception('no,\nnever') }}", "refuses a turn of the user: no, never; leave the setting false"),
        ("{% if", "refuses a turn of the user: "),
    ],
)
def test_what_cannot_be_written_is_refused_in_one_line(template, message, tmp_path):
    chatting(template).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    with pytest.raises(UnsupportedModelError) as error:
        Tasks(tokenizer, CHAT)
    assert str(error.value).startswith("text.chat_template: the ")
    assert str(tmp_path) in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_empty_turn_that_is_refused_asks_for_an_instruction():
    strict = "{% if not messages[0].content %}{{ raise_exception('content is empty') }}{% endif %}"
    tokenizer = chatting(strict + CHATML + ASSISTANT)
    message = r"refuses an empty user's turn: content is empty; give captions an instruction \(text\.caption_cue\)$"
    with pytest.raises(UnsupportedModelError, match=message):
        Captioning(tokenizer, CHAT).prompt_ids()
    assert Captioning(tokenizer, TextTemplate(chat_template=True, caption_cue="say.")).prompt_ids()
    assert QuestionAnswering(tokenizer, CHAT).prompt_ids("is it")


def test_an_answer_mark_that_is_a_token_has_no_place_in_a_chat():
    with pytest.raises(ConfigError, match="text: chat_template says where the answer begins; leave mark_is_token out"):
        TextTemplate.build({"chat_template": True, "mark_is_token": True, "answer_mark": "</a>"}, where="text")
