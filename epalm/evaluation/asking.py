"""Whatever answers rows can be asked about files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from epalm.data.file_features import OnProgress
from epalm.data.rows import Row
from epalm.errors import DataError
from epalm.evaluation.inputs import Input, media_of
from epalm.tasks.end_marks import is_blank


class BaseAnswerer(ABC):
    """Base of what answers: one adapter, or several."""

    modalities: tuple[str, ...]
    """What is perceived."""

    @abstractmethod
    def answer(self, rows: Sequence[Row], on_progress: OnProgress | None = None, where: str = "") -> list[str]:
        """An answer for every row, in their order."""

    def caption(self, inputs: Sequence[Input] | Input) -> list[str]:
        """A caption for each input.

        Args:
            inputs: files; several files of one input by modality, such as `{"video": "a.mp4", "audio": "a.mp4"}`.

        Raises:
            DataError: what is given cannot be perceived, or a file's name does not tell what it is.
            MediaError: a file cannot be read.
        """
        listed = [inputs] if isinstance(inputs, str | Path | Mapping) else list(inputs)
        return self.answer([Row(self.media(each)) for each in listed])

    def ask(self, given: Input, question: str) -> str:
        """The answer to a question about an input.

        Args:
            given: a file, or several files of one input by modality, such as `{"image": "a.jpg", "audio": "a.wav"}`.
            question: or an instruction, with the mark at its end or without.

        Raises:
            DataError: the question is empty, no text, or too long for the language model; what is given cannot be
                perceived.
            MediaError: a file cannot be read.
        """
        if is_blank(question):
            raise DataError("the question is empty; ask something")
        if any("\ud800" <= letter <= "\udfff" for letter in question):  # what is left of bytes that are no text
            raise DataError("the question is not UTF-8 text; ask it in a terminal that writes UTF-8")
        return self.answer([Row(self.media(given), question)])[0]

    def media(self, given: Input, audio: str | Path | None = None) -> dict[str, Path]:
        """What an input is perceived as, file by file, by modality.

        Args:
            given: see `ask`. A file is what is perceived, if that is one thing, else what its name says.
            audio: a sound that goes with it, such as a film's own sound track (the film itself).

        Raises:
            DataError: what is given cannot be perceived, or a file's name does not tell what it is.
            MediaError: nothing is perceived, and a file is not there.
        """
        return media_of(given, self.modalities, audio)
