"""The processes that share work on data, as accelerate knows them; one alone where nobody launched more."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TypeVar

import torch
from accelerate.utils import gather_object

from epalm.processes import processes

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """Those that share the work, of which this is one."""

    rank: int = 0
    """Which of them this is, from 0."""
    count: int = 1
    """How many there are."""

    def share(self, value: T) -> list[T]:
        """What each of them gives, in the order of their ranks; all of them must ask, and wait for the last."""
        return [value] if self.count == 1 else gather_object([value])


ALONE = Processes()


def all_processes() -> Processes:
    """Those that `accelerate launch` or torchrun started, on this machine and others, or this one alone."""
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1 or torch.distributed.is_initialized()
    if not launched:
        return ALONE
    state = processes()
    return Processes(state.process_index, state.num_processes)
