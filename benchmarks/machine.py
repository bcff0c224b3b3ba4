"""The machine that is measured: its best device, what results call it, a clock that waits for it, and its speed."""

from __future__ import annotations

import time

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
_SIZE, _PRODUCTS = (2048, 4) if DEVICE == "cpu" else (8192, 30)
PRODUCT_FLOP = 2 * _SIZE**3 * _PRODUCTS


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


def product_seconds(dtype: torch.dtype) -> float:
    """Seconds that some large square products take on end: `PRODUCT_FLOP` of multiplying and adding."""
    a, b = (torch.randn(_SIZE, _SIZE, device=DEVICE).to(dtype) for _ in range(2))
    product = torch.mm(a, b)  # the first of them wakes threads and takes memory
    started = now()
    for _ in range(_PRODUCTS):
        torch.mm(a, b, out=product)
    return now() - started


def name_of(dtype: torch.dtype) -> str:
    """Such as `float32`."""
    return str(dtype).removeprefix("torch.")
