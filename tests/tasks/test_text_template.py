import pytest

from epalm.errors import ConfigError
from epalm.tasks import TextTemplate
from epalm.tasks.end_marks import is_blank
from epalm.tasks.template import FORMER_TEXT


@pytest.mark.parametrize("question", ["what is it", "what is it?", "what is it ? ", "what  is\nit??", "what is it？"])
def test_one_question_mark_however_many_came(question):
    assert TextTemplate().ask(question) == "what is it?"


@pytest.mark.parametrize(
    "question",
    [
        *("Describe the sound.", "Count!", "Answer with one word:", "Go on…", "Really...", "what?!", "what!?"),
        *(
            "ما هذا؟",
            "Τι είναι;",
            "Τι είναι\u037e",
            "これは何ですか。",
            "数えて！",
            "ይህ ምንድን ነው፧",
            "कहाँ है।",
            "Ի՞նչ է սա",
            "x⁇",
            "x⸮",
        ),
        *("ဒါဘာလဲ။", "នេះជាអ្វី។", "མ།", "x‽", "what❓", "what⁉\ufe0f"),
        *(
            "“What is it?”",
            'Who said "Stop!"',
            "« Quoi ? »",
            "(What is it?)",
            "「何ですか？」",
            "„Was ist das?“",
            "\u2067ما هذا؟\u2069",
        ),
    ],
)
def test_a_mark_of_its_own_is_enough(question):
    for template in ("{question}?", "Q: {question}? A:", "Q: {question} ? A:", "Q: {question} A:", "{question}؟"):
        if question != "what!?":  # whose mark a template may write in its own way
            assert TextTemplate(question_format=template).ask(question) in (question, f"Q: {question} A:")
    assert TextTemplate().ask(f" {question} \u200f") == question


@pytest.mark.parametrize(
    "question", ["what is this (or that)", 'what is "red"', "¿qué es", "it is 5;3", "何ですか", "░"]
)
def test_a_question_without_a_mark_gets_the_templates(question):
    assert TextTemplate().ask(question) == f"{question}?"
    assert TextTemplate(question_format="{question}؟ A:").ask(question) == f"{question}؟ A:"
    assert TextTemplate(question_format="Q: {question} A:").ask(question) == f"Q: {question} A:"


def test_several_question_marks_become_one():
    assert TextTemplate().ask("ما هذا؟؟") == "ما هذا؟"
    assert TextTemplate(question_format="{question}؟").ask("what??") == "what؟"
    for template in ("Q: {question} A:", "Q: {question}. A:"):
        assert TextTemplate(question_format=template).ask("what ??") == "Q: what? A:"


def test_adapters_that_do_not_name_the_setting_keep_their_way():
    for question, asked in (("Count!", "Count!?"), ("ما هذا؟", "ما هذا؟?"), ("what ？？", "what?")):
        assert TextTemplate(**FORMER_TEXT).ask(question) == asked
    assert TextTemplate(question_format="Q: {question} A:", **FORMER_TEXT).ask("what?") == "Q: what A:"


def test_nothing_but_marks_is_no_question():
    assert all(is_blank(text) for text in ("", " ? ", "؟", '"…"', "\u200f?"))
    assert not any(is_blank(text) for text in ("a", "是", "🐶?", "5"))


def test_marks_inside_a_question_stay():
    assert TextTemplate().ask("which? this or that?") == "which? this or that?"


def test_the_original_put_its_mark_behind_whatever_was_there():
    template = TextTemplate(double_question_mark=True)
    assert template.ask("what is it?") == "what is it??"
    assert template.ask("what is it") == "what is it?"


def test_text_around_a_question():
    template = TextTemplate(question_format="Question: {question}?", answer_mark=" Answer: ")
    assert template.ask("a {brace}?") == "Question: a {brace}? Answer:"
    assert TextTemplate(answer_mark="\nA:\n").ask("hm") == "hm?\nA:\n"


def test_text_in_front_of_a_caption():
    assert TextTemplate().cue() == ""
    assert TextTemplate(caption_cue="a photo of ").cue() == "a photo of"


@pytest.mark.parametrize("wrong", ["no place", "{question} and {question}"])
def test_a_question_needs_one_place(wrong):
    with pytest.raises(ConfigError, match=r"text: question_format: must contain \{question\} once"):
        TextTemplate.build({"question_format": wrong}, where="text")


@pytest.mark.parametrize("name", ["question_format", "answer_mark", "caption_cue"])
def test_bytes_that_are_no_text_are_refused(name):
    with pytest.raises(ConfigError, match=f"text: {name}: is not UTF-8 text"):
        TextTemplate.build({name: "{question} \udcff"}, where="text")
