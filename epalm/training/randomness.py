"""The random states of every process, as JSON has them.

The loop itself draws everything from seed and step; what draws otherwise (dropout in a trained part, a library) goes on
where it was.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object


def random_states(accelerator: Accelerator) -> list[dict[str, Any]]:
    """Those of all processes, in their order; every process must call it."""
    own = {"python": random.getstate(), "numpy": _numpy_state(), "torch": _text(torch.get_rng_state())}
    if torch.cuda.is_available():
        own["cuda"] = _text(torch.cuda.get_rng_state())
    return list(gather_object([own])) if accelerator.num_processes > 1 else [own]


def restore_random_states(states: Sequence[dict[str, Any]], process: int) -> None:
    """Put back this process's; where there were fewer processes then, there is nothing to put back."""
    if process >= len(states):
        return
    state = states[process]
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(_tensor(state["torch"]))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(_tensor(state["cuda"]))


def _numpy_state() -> list[Any]:
    name, keys, *rest = np.random.get_state()
    return [name, np.asarray(keys).tolist(), *rest]


def _text(state: torch.Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode("ascii")


def _tensor(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
