"""Ctrl-C and SIGTERM while training: finish the step, save, and leave."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequests:
    """Which signal asked for the end, if any has."""

    def __init__(self) -> None:
        self.number = 0
        """The signal, or 0."""

    def note(self, number: int, frame: FrameType | None) -> None:
        """A signal has come. The second one is not waited for: whoever sends it wants out at once."""
        if self.number:
            raise KeyboardInterrupt
        self.number = number


@contextmanager
def heeding_signals() -> Iterator[StopRequests]:
    """Inside this context signals are noted instead of ending the process; a no-op outside the main thread.

    One that is ignored, as Ctrl-C is by jobs in the background, stays ignored.
    """
    requests = StopRequests()
    heeded = []
    if threading.current_thread() is threading.main_thread():
        heeded = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, requests.note) for number in heeded}
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
