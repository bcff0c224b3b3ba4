"""Which adapter of a run is the best, and when it is time to stop looking for a better one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


class Selection:
    """The best adapter so far, by its score on rows held out.

    Args:
        patience: scores in a row without a better one after which the run is over; None: it is never.
    """

    def __init__(self, patience: int | None = None) -> None:
        self.patience = patience
        self.scores: list[tuple[int, float]] = []
        """Step and score, in order."""
        self.best: dict[str, Tensor] | None = None
        """Trained tensors of the best one; None before anything was scored."""
        self.best_step: int | None = None

    @classmethod
    def of_dict(cls, patience: int | None, saved: Mapping[str, Any], best: dict[str, Tensor] | None) -> Selection:
        """As `as_dict` told it, with its tensors."""
        selection = cls(patience)
        selection.scores = [(step, score) for step, score in saved["scores"]]
        selection.best, selection.best_step = best, saved["best_step"]
        return selection

    def offer(self, step: int, score: float, tensors: Mapping[str, Tensor]) -> None:
        """Keep a copy of these if none before was as good; of equals the first stays."""
        if self.best is None or score > max(earlier for _, earlier in self.scores):
            self.best = {name: tensor.detach().clone() for name, tensor in tensors.items()}
            self.best_step = step
        self.scores.append((step, score))

    def has(self, step: int) -> bool:
        """Whether the adapter of this step was scored."""
        return any(scored == step for scored, _ in self.scores)

    @property
    def is_over(self) -> bool:
        """Whether patience has run out."""
        if self.patience is None or self.best_step is None:
            return False
        return sum(step > self.best_step for step, _ in self.scores) >= self.patience

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the tensors are kept apart."""
        return {"scores": self.scores, "best_step": self.best_step}
