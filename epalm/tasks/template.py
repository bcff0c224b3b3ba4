"""How questions, answers and captions are written for a language model (eP-ALM, ICCV 2023)."""

from __future__ import annotations

from pydantic import field_validator, model_validator

from epalm.settings import Settings

_PLACE = "{question}"


class TextTemplate(Settings):
    """The text around questions, answers and captions; by default nothing that a language model has not met before.

    A question and its answer read `what is it? a dog`, a caption `a dog on the grass`. A space is put between a prompt
    and what follows it, unless the prompt ends in a line break.
    """

    question_format: str = "{question}?"
    """How a question is written; `{question}` stands for it without its question mark, such as in
    `Question: {question}?`."""
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

    @field_validator("question_format")
    @classmethod
    def _has_a_place(cls, text: str) -> str:
        if text.count(_PLACE) != 1:
            raise ValueError(f"must contain {_PLACE} once")
        return text

    def ask(self, question: str) -> str:
        """The prompt for `question`: one question mark, however many it came with; no space at the end."""
        question = on_one_line(question)
        if not self.double_question_mark:
            question = question.rstrip(" ?？")
        return (self.question_format.replace(_PLACE, question) + self.answer_mark).rstrip(" ")

    @model_validator(mode="after")
    def _has_a_mark(self) -> TextTemplate:
        if self.mark_is_token and not self.answer_mark.strip():
            raise ValueError("mark_is_token needs an answer_mark, such as </a>")
        return self

    def cue(self) -> str:
        """The prompt for a caption, often empty; no space at the end."""
        return self.caption_cue.rstrip(" ")


def on_one_line(text: str) -> str:
    """`text` with single spaces: answers end at a line break, so none may stand inside."""
    return " ".join(text.split())
