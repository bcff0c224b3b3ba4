import pytest

from epalm.errors import ConfigError
from epalm.tasks import TextTemplate


@pytest.mark.parametrize("question", ["what is it", "what is it?", "what is it ? ", "what  is\nit??", "what is it？"])
def test_one_question_mark_however_many_came(question):
    assert TextTemplate().ask(question) == "what is it?"


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
