"""How questions, answers and captions are written for a language model (eP-ALM, ICCV 2023)."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import field_validator, model_validator

from epalm.settings import Settings
from epalm.tasks.end_marks import one_end_mark

_PLACE = "{question}"

FORMER_TEXT: dict[str, Any] = {"keep_end_mark": False, "split_special_tokens": False, "chat_template": False}
"""Settings of `TextTemplate` that came after the first adapters -> how it was before; of adapters and checkpoints that
do not name them."""


class Prompt(NamedTuple):
    """What a language model is given, in the parts that it is made of."""

    before: str = ""
    """Of the template."""
    question: str = ""
    """Of the data."""
    after: str = ""
    """Of the template."""

    @property
    def text(self) -> str:
        """All of it."""
        return self.before + self.question + self.after


class TextTemplate(Settings):
    """The text around questions, answers and captions; by default nothing that a language model has not met before.

    A question and its answer read `what is it? a dog`, a caption `a dog on the grass`. A space is put between a prompt
    and what follows it, unless the prompt ends in a line break.
    """

    question_format: str = "{question}?"
    """How a question is written, such as `Question: {question}?`; a mark behind `{question}` is for those that do not
    end in one."""
    answer_mark: str = ""
    """Text between question and answer, such as ` Answer:`."""
    mark_is_token: bool = False
    """Write the answer mark as one token, with the answer right behind it, as the original did with its `</a>`: a new
    token takes the first number behind the tokenizer's own, and a language model with rows to spare there (OPT) knows
    nothing of it yet."""
    caption_cue: str = ""
    """Text in front of every caption, such as `a photo of`."""
    double_question_mark: bool = False
    """Keep the question's own mark beside the template's (`it??`), as the original checkpoints were trained."""
    keep_end_mark: bool = True
    """A question or an instruction that ends in a mark of its own, such as `Count!`, gets no other, in any script;
    false: `?` and `？` alone are such marks, and are dropped where `question_format` has none, as adapters were trained
    before there was this setting."""
    split_special_tokens: bool = True
    """Write control tokens in questions, captions and answers, such as `</s>`, as plain text, so that only the
    template's are control tokens, and begin-of-text is not doubled; false: as adapters were trained before there was
    this setting."""
    chat_template: bool = False
    """Write the question as the user's turn of a chat and the answer as the assistant's, by the tokenizer's own chat
    template and with its end token, for models that were taught to chat; the user's turn for a caption is
    `caption_cue`. False: plain text."""

    @field_validator("question_format")
    @classmethod
    def _has_a_place(cls, text: str) -> str:
        if text.count(_PLACE) != 1:
            raise ValueError(f"must contain {_PLACE} once")
        return text

    @field_validator("question_format", "answer_mark", "caption_cue")
    @classmethod
    def _is_text(cls, text: str) -> str:
        if any("\ud800" <= letter <= "\udfff" for letter in text):  # what is left of bytes that are no text
            raise ValueError("is not UTF-8 text")
        return text

    def ask(self, question: str) -> str:
        """The prompt for `question`: one mark at its end, however many it came with; no space at the end."""
        return self.prompt(question).text

    def prompt(self, question: str) -> Prompt:
        """As `ask`, in its parts."""
        question = on_one_line(question)
        before, _, after = self.question_format.partition(_PLACE)
        if not self.double_question_mark:
            question, after = one_end_mark(question, after) if self.keep_end_mark else (question.rstrip(" ?？"), after)
        after = (after + self.answer_mark).rstrip(" ")
        if not after:
            question = question.rstrip(" ")
        return Prompt(before if question or after else before.rstrip(" "), question, after)

    @model_validator(mode="after")
    def _has_a_mark(self) -> TextTemplate:
        if self.mark_is_token and not self.answer_mark.strip():
            raise ValueError("mark_is_token needs an answer_mark, such as </a>")
        if self.mark_is_token and self.chat_template:
            raise ValueError("chat_template says where the answer begins; leave mark_is_token out")
        return self

    def cue(self) -> str:
        """The prompt for a caption, often empty; no space at the end."""
        return self.caption_cue.rstrip(" ")


def on_one_line(text: str) -> str:
    """`text` with single spaces: answers end at a line break, so none may stand inside."""
    return " ".join(text.split())
