"""The one internal row: what is perceived, what is asked about it, what a right answer reads.

Every reader of a published data set ends here, and so does a manifest of one's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

TaskName = Literal["captioning", "question_answering"]

MODALITIES = ("image", "video", "audio")


@dataclass(frozen=True, slots=True)
class Row:
    """One thing to perceive, with a question about it or without."""

    media: Mapping[str, Path]
    """Modality -> file; a row may bring several modalities at once."""
    question: str | None = None
    """None where a caption is wanted."""
    targets: tuple[str, ...] = ()
    """Right answers or captions; answers of several people may repeat. Empty in a test split."""
    weights: tuple[float, ...] | None = None
    """Soft score of each target, in [0, 1], where the data come with scores; a target of 0 is never right."""
    id: str = ""
    """What predictions are filed under; unique in a manifest."""
    number: int = 0
    """Line in the manifest, from 1, for messages; 0 for a row that was never in a file."""

    groups: Mapping[str, str] = field(default_factory=dict)
    """What the row's score counts under beside the whole, such as {"answer_type": "yes/no"}."""

    @property
    def counts_as_wrong(self) -> bool:
        """Whether no answer to it scores, so that every prediction is wrong."""
        return self.weights is not None and not any(self.weights)

    @property
    def task(self) -> TaskName:
        """`question_answering` where there is a question, else `captioning`."""
        return "captioning" if self.question is None else "question_answering"
