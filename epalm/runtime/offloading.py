"""Weights that accelerate keeps in main memory or on a disk, and brings to a device for as long as their module runs.

Meanwhile they are on the `meta` device, as if there were none; a hook of the module knows where it runs and where the
weights are (`cpu_offload`, `disk_offload`, `dispatch_model`, a `device_map` with `cpu` or `disk`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from accelerate.hooks import AlignDevicesHook
from torch import Tensor, nn


def execution_device(module: nn.Module) -> torch.device:
    """Where a module takes its inputs: where its first weight is, or is brought to."""
    weight = next(module.parameters())
    if weight.is_meta:
        for part, hook in _hooks(module):
            if hook.offload and any(tensor is weight for _, tensor in _tensors(part, hook)):
                return torch.device(hook.execution_device)
    return weight.device


def is_offloaded(module: nn.Module) -> bool:
    """Whether any weight of a module is kept elsewhere than where it runs."""
    return any(hook.offload for _, hook in _hooks(module))


def is_dispatched(module: nn.Module) -> bool:
    """Whether accelerate has given the parts of a module their places, so that nobody else may move it."""
    return any(hook.execution_device is not None for _, hook in _hooks(module))


def parameters_once(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Every parameter by its name, shared ones once; offloaded ones are on the `meta` device."""
    shared = _shared_names(module) if is_offloaded(module) else set()
    for name, parameter in module.named_parameters():
        # When shared weights are taken away, each module gets a parameter of its own.
        if not (parameter.is_meta and name in shared):
            yield name, parameter


def kept_weights(module: nn.Module, *, buffers: bool = False) -> Iterator[tuple[str, Tensor]]:
    """The same with what is kept of offloaded ones; what has no values anywhere stays on the `meta` device.

    Args:
        module: any.
        buffers: give buffers as well.
    """
    kept = {
        id(tensor): (hook, name)
        for part, hook in _hooks(module)
        if hook.offload
        for name, tensor in _tensors(part, hook)
    }
    for name, tensor in (*parameters_once(module), *(module.named_buffers() if buffers else ())):
        yield name, _kept(*kept[id(tensor)], tensor) if id(tensor) in kept else tensor


def _kept(hook: Any, name: str, tensor: Tensor) -> Tensor:
    try:
        return cast(Tensor, hook.weights_map[name])
    except KeyError:
        return tensor


def _hooks(module: nn.Module) -> Iterator[tuple[nn.Module, Any]]:
    """The parts that accelerate aligns, and how."""
    for part in module.modules():
        hook = getattr(part, "_hf_hook", None)
        for each in getattr(hook, "hooks", (hook,)):
            if isinstance(each, AlignDevicesHook):
                yield part, each


def _tensors(part: nn.Module, hook: Any) -> Iterator[tuple[str, Tensor]]:
    """What a hook takes care of, and is away."""
    found = (*part.named_parameters(recurse=hook.place_submodules), *part.named_buffers(recurse=hook.place_submodules))
    return ((name, tensor) for name, tensor in found if tensor.is_meta)


def _shared_names(module: nn.Module) -> set[str]:
    """Names of parameters that are others under a second name, as transformers knows them."""
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, part in module.named_modules()
        for name in getattr(part, "all_tied_weights_keys", None) or ()
    }
