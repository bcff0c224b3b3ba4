"""Several trainings at the same time, each in a process of its own.

On models as small as the toy world's one thread does almost as much as several, which wait for each other all the time.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import active_children, get_context
from queue import Queue
from typing import Protocol, TypeVar

import torch
from transformers.utils import logging

from epalm.data.file_features import OnProgress

_Result = TypeVar("_Result", covariant=True)


class Task(Protocol[_Result]):
    """Something that takes a while, and can be handed to another process."""

    @property
    def starts_from(self) -> set[str]:
        """The tasks that must be done before, by name."""

    def run(self, on_progress: OnProgress) -> _Result:
        """Do it."""


def side_by_side(tasks: Mapping[str, Task[_Result]], workers: int, on_progress: OnProgress) -> dict[str, _Result]:
    """What every task comes to, each begun as soon as a worker is free and what it starts from is done.

    Args:
        tasks: by name.
        workers: processes, which share the threads that torch has here.
        on_progress: told of what the tasks tell.

    Raises:
        ValueError: a task starts from one that is not there.
    """
    spawn = get_context("spawn")
    waiting, done = dict(tasks), dict[str, _Result]()
    wanted = {name for task in tasks.values() for name in task.starts_from}
    if missing := sorted(wanted - tasks.keys()):
        raise ValueError(f"{', '.join(missing)}: not among the tasks, and others start from it")
    threads = max(1, torch.get_num_threads() // workers)
    with spawn.Manager() as manager:
        progress_queue = manager.Queue()
        with ProcessPoolExecutor(workers, spawn, _begin, (threads,)) as pool:
            running: dict[Future[_Result], str] = {}
            try:
                while waiting or running:
                    startable = [name for name, task in waiting.items() if task.starts_from <= done.keys()]
                    startable.sort(key=lambda name: name not in wanted)  # what others wait for goes first
                    for name in startable:
                        running[pool.submit(_work, waiting.pop(name), progress_queue)] = name
                    finished, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
                    while not progress_queue.empty():
                        on_progress(*progress_queue.get())
                    for future in finished:
                        done[running.pop(future)] = future.result()
            except BaseException:  # nobody waits for the others any more
                for process in active_children():
                    process.terminate()
                raise
    return done


def _begin(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the first process as well, which ends the others
    torch.set_num_threads(threads)
    logging.disable_progress_bar()


def _work(task: Task[_Result], progress_queue: Queue[tuple[str, int, int]]) -> _Result:
    return task.run(lambda *progress: progress_queue.put(progress))
