"""Captioning: say what is perceived."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

from epalm.data.rows import Row
from epalm.metrics import CAPTION_METRICS, Reference
from epalm.tasks.base import Task, first_line, register_task
from epalm.tasks.template import Prompt


@register_task("captioning")
class Captioning(Task):
    """`<cue> caption <eos>`; every caption is a training row of its own (eP-ALM, ICCV 2023)."""

    def prompt_parts(self, question: str | None = None) -> Prompt:
        """The cue."""
        if question is not None:
            raise ValueError("captioning takes no question")
        return Prompt(after=self.template.cue())

    def draw(self, row: Row, generator: random.Random) -> str:
        """One caption, each as likely; rows from `expand` have but one."""
        return generator.choice(row.targets)

    def expand(self, row: Row) -> list[Row]:
        """One row for each caption."""
        return [dataclasses.replace(row, targets=(caption,)) for caption in row.targets]

    def read_answer(self, text: str) -> str:
        """The first line."""
        return first_line(text)

    def metrics_for(self, rows: Sequence[Row]) -> tuple[str, ...]:
        """CIDEr, BLEU, ROUGE-L, METEOR, SPICE and SPIDEr."""
        return CAPTION_METRICS

    def references(self, row: Row) -> Reference:
        """All captions."""
        return row.targets
