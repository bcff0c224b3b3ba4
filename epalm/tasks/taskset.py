"""All tasks for one tokenizer, so that rows of several tasks may be mixed in one run."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from typing import Any

from epalm.data.collate import Encoded
from epalm.data.rows import Row
from epalm.errors import DataError
from epalm.tasks.base import TASKS, Task
from epalm.tasks.suppressed_tokens import SuppressedTokens
from epalm.tasks.template import TextTemplate


class Tasks:
    """Hands every row to the task it belongs to.

    Args:
        tokenizer: of the language model.
        template: how text is written for it.
        embeddings: how many tokens the language model has embeddings for; unset: enough.

    Raises:
        UnsupportedModelError: the tokenizer cannot end a text, or has no chat template where one is asked for.
    """

    def __init__(self, tokenizer: Any, template: TextTemplate | None = None, embeddings: int | None = None) -> None:
        self._tasks = {name: task(tokenizer, template) for name, task in TASKS.items()}
        self._tokenizer = tokenizer
        self.template = template or TextTemplate()
        """How text is written."""
        task_tokenizer = next(iter(self._tasks.values())).tokenizer
        self.eos_id = task_tokenizer.eos_id
        """Ends every answer."""
        self.end_ids = task_tokenizer.end_ids
        """End a generated answer: that one, and the tokenizer's own."""
        # Pad tokens are often added to a tokenizer whose language model was never given an embedding for them.
        has_pad = embeddings is None or task_tokenizer.pad_id < embeddings
        self.pad_id = task_tokenizer.pad_id if has_pad else self.eos_id
        """Fills up batches."""

    def suppressed(self, vocabulary: int, ends: Collection[int]) -> SuppressedTokens:
        """What is never generated; arguments as in `SuppressedTokens.find`."""
        mark = next(iter(self._tasks.values())).tokenizer.mark
        return SuppressedTokens.find(self._tokenizer, vocabulary, ends, mark)

    def __getitem__(self, name: str) -> Task:
        """The task of that name, as in `Row.task`."""
        return self._tasks[name]

    def of(self, row: Row) -> Task:
        """The task of `row`."""
        return self._tasks[row.task]

    def expand(self, rows: Sequence[Row]) -> list[Row]:
        """The rows to train on: every caption on its own, every question once."""
        return [training_row for row in rows for training_row in self.of(row).expand(row)]

    def encode(self, row: Row, generator: random.Random) -> Encoded:
        """See `Task.encode`."""
        return self.of(row).encode(row, generator)

    def prompt_ids(self, row: Row) -> list[int]:
        """What to generate from for `row`; its targets are not looked at.

        Raises:
            DataError: see `Task.prompt_ids`.
        """
        try:
            return self.of(row).prompt_ids(row.question)
        except DataError as error:
            name = row.number or row.id  # who asks one question has no rows
            raise DataError(f"row {name}: {error}" if name else str(error)) from None
