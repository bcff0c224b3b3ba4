"""What a caller may have changed for all of torch, put aside while this package computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Inside this context torch computes as it does in a fresh process; also a decorator.

    That is: new tensors are float32 and on the CPU where nothing else is said, gradients are kept, and nothing is cast.
    So a run comes to the same numbers in a notebook that set a default dtype or device, or inside `torch.autocast`,
    `torch.no_grad` or `torch.inference_mode`.
    """
    dtype, accelerator = torch.get_default_dtype(), torch.accelerator.current_accelerator()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in {"cpu", "cpu" if accelerator is None else accelerator.type}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if dtype != torch.float32:  # it is one for all threads: only who changes it puts it back
            stack.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(torch.float32)
        yield
