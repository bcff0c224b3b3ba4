"""A run's own scores beside those that others reported."""

from __future__ import annotations

from epalm.evaluation import Evaluation
from epalm.recipe import PublishedScores


def comparison_line(published: PublishedScores, evaluation: Evaluation) -> str:
    """One line: metric by metric what was reported, and what this run has."""
    own = {name: value for task in evaluation.scores.values() for name, value in task.items()}
    metrics = [
        f"{name} {score:.2f} (this run: {f'{own[name]:.2f}' if name in own else 'not computed'})"
        for name, score in published.scores.items()
    ]
    return f"published: {', '.join(metrics)}; {published.source}"
