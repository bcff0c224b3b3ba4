"""Progress of each thing that is under way: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


@contextmanager
def show_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Gives a function of what is under way, how much is done, and how much there is.

    What stands behind a colon is a detail that changes: `training: loss 0.71` goes on with the bar of `training`.
    """
    console = Console(stderr=True)
    known: dict[str, int] = {}
    if not console.is_terminal:
        yield partial(_tell, known)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bars = Progress(*columns, console=console)

    def show(what: str, done: int, total: int) -> None:
        key, _, detail = what.partition(":")
        if key not in known:
            bars.start()
            known[key] = bars.add_task(key, total=total)
        bars.update(TaskID(known[key]), completed=done, total=total, description=f"{key}{detail}")

    try:
        yield show
    finally:
        if known:  # with nothing under way there is nothing to be seen, not even an empty line
            bars.stop()


def _tell(known: dict[str, int], what: str, done: int, total: int) -> None:
    """A line for every tenth, for logs: a bar would be drawn there once, at the end."""
    key, tenth = what.partition(":")[0], 10 * done // total
    if done < total and known.get(key, 0) == tenth:
        return
    known[key] = tenth
    print(f"{what} ({done}/{total})", file=sys.stderr, flush=True)
