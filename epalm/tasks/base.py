"""What a task is: rows to tokens on the way in, generated text to an answer on the way out.

A task never knows which language model it talks to: it has a tokenizer and a template.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Any, ClassVar, TypeVar

from epalm.data.collate import Encoded
from epalm.data.rows import Row
from epalm.errors import DataError
from epalm.metrics import Reference
from epalm.tasks.task_tokenizer import TaskTokenizer
from epalm.tasks.template import Prompt, TextTemplate, on_one_line


class Task(ABC):
    """Captioning, question answering, or another task of text about perception.

    Args:
        tokenizer: of the language model.
        template: how text is written for it.

    Raises:
        UnsupportedModelError: the tokenizer cannot end a text, or has no chat template where one is asked for.
    """

    name: ClassVar[str]
    """As in `Row.task`."""

    def __init__(self, tokenizer: Any, template: TextTemplate | None = None) -> None:
        self.template = template or TextTemplate()
        mark = self.template.answer_mark.strip(" ") if self.template.mark_is_token else ""
        self.tokenizer = TaskTokenizer(
            tokenizer, mark, self.template.split_special_tokens, chat_template=self.template.chat_template
        )

    @abstractmethod
    def prompt_parts(self, question: str | None = None) -> Prompt:
        """The prompt as plain text, and what of it is the question."""

    @abstractmethod
    def draw(self, row: Row, generator: random.Random) -> str:
        """The target of this visit to `row`."""

    @abstractmethod
    def expand(self, row: Row) -> list[Row]:
        """The rows to train on that `row` stands for."""

    @abstractmethod
    def read_answer(self, text: str) -> str:
        """The answer in a generated text."""

    @abstractmethod
    def metrics_for(self, rows: Sequence[Row]) -> tuple[str, ...]:
        """Names of the scores that suit `rows`, the headline first, which every machine can compute."""

    @abstractmethod
    def references(self, row: Row) -> Reference:
        """What a prediction for `row` is held against."""

    def prompt(self, question: str | None = None) -> str:
        """The text that the language model is given, with the turns of a chat where there are any."""
        return self._prompt(question).text

    def prompt_ids(self, question: str | None = None) -> list[int]:
        """The prompt as tokens, to generate from; never empty.

        Raises:
            DataError: the question holds a control token that the tokenizer cannot write as plain text.
        """
        return self.tokenizer.prompt_ids(self._prompt(question))

    def encode(self, row: Row, generator: random.Random) -> Encoded:
        """`row` as it is trained on in this visit.

        Args:
            row: with at least one target.
            generator: draws the target where there are several; the same state gives the same target.

        Raises:
            DataError: the row has no target, or holds a control token that the tokenizer cannot write as plain text.
        """
        if not row.targets or row.counts_as_wrong:
            raise DataError(f"row {row.number or row.id}: has no answer or caption to train on")
        prompt = self._prompt(row.question)
        target = on_one_line(self.draw(row, generator))
        try:
            return Encoded(self.tokenizer.prompt_ids(prompt), self.tokenizer.target_ids(target, prompt.text))
        except DataError as error:
            raise DataError(f"row {row.number or row.id}: {error}") from None

    def read_ids(self, ids: Sequence[int], end_ids: Collection[int] = ()) -> str:
        """The answer in generated tokens, prompt left out; `end_ids` are end tokens beside the tokenizer's own."""
        return self.read_answer(self.tokenizer.decode(ids, end_ids))

    def _prompt(self, question: str | None) -> Prompt:
        return self.tokenizer.turns(self.prompt_parts(question))


TASKS: dict[str, type[Task]] = {}
"""Every task by name; a new one is a new file with `@register_task` and one line in this room's `__init__`."""

TaskT = TypeVar("TaskT", bound=type[Task])


def register_task(name: str) -> Callable[[TaskT], TaskT]:
    """Enter a task under its name."""

    def register(task: TaskT) -> TaskT:
        task.name = name
        TASKS[name] = task
        return task

    return register


def first_line(text: str) -> str:
    """The first line that is not blank, without outer spaces: language models go on after they have answered."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
