"""Progress of each thing that is under way: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


@contextmanager
def show_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Gives a function of what is under way, how much is done, and how much there is.

    What stands behind a colon is a detail that changes: `training: loss 0.71` goes on with the bar of `training`.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines().report
        return
    tasks: dict[str, int] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bars = Progress(*columns, console=console)

    def report(what: str, done: int, total: int) -> None:
        key, _, detail = what.partition(":")
        if key not in tasks:
            bars.start()
            tasks[key] = bars.add_task(key, total=total)
        bars.update(TaskID(tasks[key]), completed=done, total=total, description=f"{key}{detail}")

    try:
        yield report
    finally:
        if tasks:  # with nothing under way there is nothing to be seen, not even an empty line
            bars.stop()


class _Lines:
    """A line for every tenth, for logs: a bar would be drawn there once, at the end."""

    def __init__(self) -> None:
        self._last_tenth: dict[str, int] = {}
        """The last tenth of each."""
        self._started: dict[str, tuple[float, int]] = {}
        """When it was first heard of each, and how much was done then."""

    def report(self, what: str, done: int, total: int) -> None:
        """It is `done` of `total`."""
        key, tenth = what.partition(":")[0], 10 * done // total
        if key not in self._started or done <= self._started[key][1]:
            self._started[key] = (time.monotonic(), done)
        if done < total and self._last_tenth.get(key, 0) == tenth:
            return
        self._last_tenth[key] = tenth
        began, first = self._started[key]
        remaining = ""
        if first < done < total:
            seconds = (time.monotonic() - began) / (done - first) * (total - done)
            remaining = f", {timedelta(seconds=round(seconds))} left"
        sys.stderr.write(f"{what} ({done}/{total}{remaining})\n")  # at once, for lines of several processes
        sys.stderr.flush()
