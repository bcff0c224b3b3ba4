"""Question answering, open-ended: the answer is generated, not chosen."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from epalm.data.rows import Row
from epalm.metrics import Reference
from epalm.metrics.accuracy import FEWEST_ANSWERS
from epalm.tasks.base import Task, first_line, register_task
from epalm.tasks.template import Prompt

# VQA's soft score of an answer that one of ten people gave; it grows by as much with each, up to 1.
_SCORE_PER_PERSON = 0.3


@register_task("question_answering")
class QuestionAnswering(Task):
    """`question? <mark> answer <eos>`; one answer a visit, drawn by its soft score (eP-ALM, ICCV 2023)."""

    def prompt_parts(self, question: str | None = None) -> Prompt:
        """The question and the answer mark."""
        if question is None:
            raise ValueError("question answering needs a question")
        return self.template.prompt(question)

    def draw(self, row: Row, generator: random.Random) -> str:
        """One answer in proportion to its soft score: the row's own, or by how many people gave it."""
        if row.weights is not None:
            return generator.choices(row.targets, row.weights)[0]
        people = Counter(row.targets)
        return generator.choices(list(people), [min(1.0, _SCORE_PER_PERSON * count) for count in people.values()])[0]

    def expand(self, row: Row) -> list[Row]:
        """The row itself: its answers take turns."""
        return [row]

    def read_answer(self, text: str) -> str:
        """The first line, without a period at its end."""
        return first_line(text).removesuffix(".").rstrip()

    def metrics_for(self, rows: Sequence[Row]) -> tuple[str, ...]:
        """VQA accuracy where every row has many people's answers or soft scores, else exact match."""
        if all(row.weights is not None or len(row.targets) >= FEWEST_ANSWERS for row in rows):
            return ("vqa_accuracy",)
        return ("exact_match",)

    def references(self, row: Row) -> Reference:
        """The answers, with their soft scores where there are some."""
        if row.weights is None:
            return row.targets
        return dict(zip(row.targets, row.weights, strict=True))
