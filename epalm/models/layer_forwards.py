"""For a while, other code in the place of decoder layers' own `forward`; hooks stay around it.

Whatever stands between a layer and its hooks is reached by the layer's `forward` alone, so that an unmodified decoder
can run with compiled layers, or without some of them.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from epalm.errors import ConfigError

Forward = Callable[..., Any]


@contextmanager
def replaced(layers: Iterable[nn.Module], change: Callable[[Forward], Forward]) -> Iterator[None]:
    """Inside this context every layer's `forward` is what `change` makes of it; outside it is what it was before."""
    with ExitStack() as restoring:
        for layer in layers:
            before = vars(layer).get("forward")
            restoring.callback(_put_back, layer, before)
            layer.forward = functools.wraps(layer.forward)(change(layer.forward))
        yield


def compiled(layers: Iterable[nn.Module], **options: Any) -> Any:
    """Inside this context the layers run compiled wherever gradients are recorded; `options` are `torch.compile`'s.

    Only there: every layer holds its own place in a cache, which would make generation compile each of them anew.
    """

    def compile_one(forward: Forward) -> Forward:
        fast = torch.compile(forward, dynamic=True, **options)

        def either(*args: Any, **kwargs: Any) -> Any:
            return (fast if torch.is_grad_enabled() else forward)(*args, **kwargs)

        return either

    return replaced(layers, compile_one)


def require_compiler(device: torch.device) -> None:
    """See that `torch.compile` finds what it needs for `device`.

    Raises:
        ConfigError: it does not.
    """
    if device.type == "cpu":
        compiler = os.environ.get("CXX") or {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
        if shutil.which(compiler) is None:
            raise ConfigError(
                f"training.compile: there is no C++ compiler '{compiler}' here; install one, or leave it out"
            )
    elif importlib.util.find_spec("triton") is None:
        raise ConfigError("training.compile: needs the package triton, which is not installed; leave it out")


def _put_back(layer: nn.Module, before: Forward | None) -> None:
    if before is None:
        del layer.forward
    else:
        layer.forward = before
