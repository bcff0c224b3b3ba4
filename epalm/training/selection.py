"""Which adapter of a run is the best, and when it is time to stop looking for a better one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from epalm.data.rows import Row
from epalm.evaluation.perception_gain import LOSS, PERCEPTION_GAIN
from epalm.recipe import Recipe


def lower_is_better(metric: str | None) -> bool:
    """Whether a smaller score is the better one."""
    return metric == LOSS


class Selection:
    """The best adapter so far, by its score on rows held out.

    Args:
        patience: scores in a row without a better one after which the run is over; None: it is never.
        lower: whether a smaller score is the better one.
    """

    def __init__(self, patience: int | None = None, lower: bool = False) -> None:
        self.patience, self.lower = patience, lower
        self.scores: list[tuple[int, float]] = []
        """Step and score, in order."""
        self.best: dict[str, Tensor] | None = None
        """Trained tensors of the best one; None before anything was scored."""
        self.best_step: int | None = None

    def restore(self, saved: Mapping[str, Any], best: dict[str, Tensor] | None) -> None:
        """Be as `as_dict` told it, with its tensors."""
        self.scores = [(step, score) for step, score in saved["scores"]]
        self.best, self.best_step = best, saved["best_step"]

    def offer(self, step: int, score: float, tensors: Mapping[str, Tensor]) -> None:
        """Keep a copy of these if none before was as good; of equals the first stays."""
        sign = -1 if self.lower else 1
        if self.best is None or sign * score > max(sign * earlier for _, earlier in self.scores):
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


@dataclass(frozen=True)
class Choice:
    """Which adapter of a run was kept, and by what."""

    step: int
    """After which it was scored."""
    score: float
    metric: str | None
    """What it is the best by; None: the first metric of each task, averaged."""
    holdout: float | None
    """Share of the training files that were set aside to choose by; None: the validation rows chose."""
    rows: int
    """That chose."""
    files: int
    """Which these rows name."""

    @classmethod
    def of(
        cls, scores: Sequence[tuple[int, float]], step: int | None, recipe: Recipe, rows: Sequence[Row]
    ) -> Choice | None:
        """What became of `scores` on `rows`; None where nothing was chosen."""
        if step is None:
            return None
        files = {file for row in rows for file in row.media.values()}
        return cls(step, dict(scores)[step], recipe.training.metric, recipe.data.holdout, len(rows), len(files))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "step": self.step,
            "score": self.score,
            "metric": self.metric,
            "holdout": self.holdout,
            "rows": self.rows,
            "files": self.files,
        }

    def as_text(self) -> str:
        """A line."""
        metric = self.metric or "the first metric of each task"
        score = f"{self.score:.{3 if self.metric in (LOSS, PERCEPTION_GAIN) else 2}f}"
        rows = f"{self.rows:,} {'' if self.holdout else 'validation '}row{'s' if self.rows > 1 else ''}"
        files = f" of {self.files:,} training file{'s' if self.files > 1 else ''}, held out" if self.holdout else ""
        return f"chosen: step {self.step:,}, {metric} {score} on {rows}{files}"
