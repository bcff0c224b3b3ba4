"""Ways of doing the same thing, measured side by side: each in a process of its own, a little at a time, in turn.

A machine that is shared with others is faster now and slower then, by a factor of two within seconds. What is measured
in turn has its share of both, and what each way needs of memory is its own.

A process takes part through `Turns`; whoever compares runs them with `side_by_side`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from machine import now

_NEXT, _DONE = "<next turn>", "<done> "


class Turns:
    """The side of a process that is measured: what happens in its turns."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        """Of each turn."""
        self._began: float | None = None

    def wait(self) -> None:
        """End this turn, if one has begun, and wait for the next."""
        self.end()
        print(_NEXT, flush=True)
        if not sys.stdin.readline():
            sys.exit("turns: nobody gives them any more")
        self.begin()

    def begin(self) -> None:
        """Measure from here on; `wait` does so by itself."""
        self._began = now()

    def end(self) -> None:
        """End this turn: what follows is not measured."""
        if self._began is not None:
            self.seconds.append(now() - self._began)
            self._began = None

    def done(self, result: Any) -> None:
        """Tell what this process came to; there are no more turns."""
        print(_DONE + json.dumps(result), flush=True)


def side_by_side(commands: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What each of some processes came to; turns begin when all of them are ready for one.

    Args:
        commands: command line by name, in the order of their turns.

    Raises:
        RuntimeError: one of them ended before it was done.
    """
    running = {
        name: subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name, command in commands.items()
    }
    results: dict[str, Any] = {}
    try:
        waiting = [name for name, process in running.items() if _waits(name, process, results)]
        while waiting:
            name = waiting.pop(0)
            given = running[name].stdin
            assert given is not None
            print(file=given, flush=True)
            if _waits(name, running[name], results):
                waiting.append(name)
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    return results


def _waits(name: str, process: subprocess.Popen[str], results: dict[str, Any]) -> bool:
    """Whether the process comes to wait for a turn; else it is done, and its result is among `results`."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(_NEXT):
            return True
        if line.startswith(_DONE):
            results[name] = json.loads(line.removeprefix(_DONE))
            return False
    raise RuntimeError(f"{name}: ended with {process.wait()} before it was done")
