"""The machine that is measured: its best device, what results call it, and a clock that waits for it."""

from __future__ import annotations

import time

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def device_name() -> str:
    """What results say that they were measured on."""
    return torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu"


def settle() -> None:
    """Wait until the device has done all that it was given."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def now() -> float:
    """Seconds, read when the device has done all that it was given."""
    settle()
    return time.perf_counter()


def name_of(dtype: torch.dtype) -> str:
    """Such as `float32`."""
    return str(dtype).removeprefix("torch.")
