"""Progress bars on the terminal: one for each thing that is under way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


@contextmanager
def show_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Gives a function of what is under way, how much is done, and how much there is.

    What stands behind a colon is a detail that changes: `training: loss 0.71` goes on with the bar of `training`.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bars = Progress(*columns, console=Console(stderr=True))
    known: dict[str, TaskID] = {}

    def show(what: str, done: int, total: int) -> None:
        key, _, detail = what.partition(":")
        if key not in known:
            bars.start()
            known[key] = bars.add_task(key, total=total)
        bars.update(known[key], completed=done, total=total, description=f"{key}{detail}")

    try:
        yield show
    finally:
        if known:  # with nothing under way there is nothing to be seen, not even an empty line
            bars.stop()
