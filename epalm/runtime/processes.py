"""Several processes of one run, as `accelerate launch` and `torchrun` start them: who is who, and who does what.

Alone, a process is the main one and does everything.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object, parse_flag_from_env

from epalm.errors import ConfigError

_T = TypeVar("_T")
_WRAPPERS = {
    "FSDP": "ACCELERATE_USE_FSDP",
    "DeepSpeed": "ACCELERATE_USE_DEEPSPEED",
    "Megatron-LM": "ACCELERATE_USE_MEGATRON_LM",
}
"""What accelerate would make of a model, and where its launcher says so."""


@dataclass(frozen=True)
class Processes:
    """Those that share the work, of which this is one."""

    rank: int = 0
    """Which of them this is, from 0."""
    count: int = 1
    """How many there are."""

    def share(self, value: _T) -> list[_T]:
        """What each of them gives, in the order of their ranks; all of them must ask, and wait for the last."""
        return [value] if self.count == 1 else gather_object([value])


ALONE = Processes()


def all_processes() -> Processes:
    """Those that `accelerate launch` or torchrun started, on this machine and others, or this one alone."""
    if os.environ.get("WORLD_SIZE", "1") == "1" and not torch.distributed.is_initialized():
        return ALONE
    state = processes()
    return Processes(state.process_index, state.num_processes)


def processes() -> PartialState:
    """All of them, and which one this is; they talk to each other by their GPUs, or without such by gloo.

    Raises:
        ConfigError: the environment tells of several, and not how they find each other.
    """
    with refusing_environment():
        state = PartialState(cpu=without_gpu())
    if state.num_processes > 1:
        atexit.unregister(_end_gloo_group)  # once, however often this is asked
        atexit.register(_end_gloo_group)
    return state


def _end_gloo_group() -> None:
    """End the process group before the interpreter ends: threads of gloo that still run then can abort the process.

    One of NCCL is left alone, for there it may mean waiting for a process that has failed.
    """
    if torch.distributed.is_initialized() and torch.distributed.get_backend() == "gloo":
        torch.distributed.destroy_process_group()


@contextmanager
def refusing_environment() -> Iterator[None]:
    """Inside this context accelerate may be set up.

    Raises:
        ConfigError: it cannot make anything of the environment variables that launchers set.
    """
    try:
        yield
    except (ValueError, torch.distributed.DistError) as error:
        raise ConfigError(
            f"processes: the environment does not tell how they were launched ({' '.join(str(error).split())}); start "
            "them with accelerate launch or torchrun, or unset WORLD_SIZE, RANK, LOCAL_RANK and what begins with "
            "ACCELERATE_"
        ) from None


def without_gpu() -> bool:
    """Whether a run here is one of CPUs, as accelerate must be told."""
    return parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()


def require_plain_launch() -> None:
    """See that accelerate is to start processes, and nothing more: it cannot know what of a model is frozen.

    Raises:
        ConfigError: its configuration asks for more.
    """
    for name, flag in _WRAPPERS.items():
        if parse_flag_from_env(flag):
            raise ConfigError(
                f"{name} is turned on in accelerate's configuration ({flag}), which is not supported; turn it off "
                "there, and shard a language model that does not fit one device by --model.shard true"
            )


def require_own_devices(device: str | None) -> None:
    """See that processes of one machine do not all go to one device, as they would where it is named by number.

    Args:
        device: as in `model.device`; None: each process takes its own.

    Raises:
        ConfigError: they would.
    """
    kind, _, index = (device or "").partition(":")
    local_count = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("WORLD_SIZE") or 1)
    if local_count > 1 and index and kind != "cpu":
        raise ConfigError(
            f"model.device: '{device}' would put all {local_count} processes of this machine on one device; leave it "
            "out, and each takes the GPU of its number"
        )


def is_main_process() -> bool:
    """Whether this is the process that writes results and tells of progress."""
    return bool(processes().is_main_process)


def own_device(device: torch.device) -> torch.device:
    """`device`, and of several GPUs this process's own."""
    if device.type != "cuda" or device.index is not None:
        return device
    # Where the launcher lets each process see one GPU alone, that is the first of each.
    return torch.device("cuda", processes().local_process_index % torch.cuda.device_count())


def wait_for_everyone() -> None:
    """Go on when every process has come here."""
    processes().wait_for_everyone()


def divide_work(items: Sequence[Any], work: Callable[[Sequence[Any]], Sequence[_T]]) -> list[_T]:
    """What `work` makes of every item, in their order; each process does its share, and all get the whole.

    Args:
        items: the same in every process.
        work: gives one result for each of the items it gets.
    """
    own = all_processes()
    results: list[_T | None] = [None] * len(items)
    for rank, share in enumerate(own.share(list(work(items[own.rank :: own.count])))):
        results[rank :: own.count] = share
    return results  # type: ignore[return-value]
