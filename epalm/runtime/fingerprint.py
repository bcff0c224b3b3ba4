"""Two ways to know frozen weights again: a fingerprint that survives rounding, and a digest that nothing survives.

By the fingerprint an adapter knows the backbone it was trained on, whatever that is held in; by the digest a feature
store knows the very numbers that made its features. The fingerprint is SHA-256 over every parameter's name, shape and
the signs of up to 65,536 evenly spaced elements. Signs survive rounding, so the same weights give the same print in
float32, float16 and bfloat16 and on every device. Quantising may round a small weight to 0, which has no sign: a
quantised layer keeps what its weight was known by. Of a module that is about to be sharded over processes the print
is remembered, for no process can read it afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from operator import itemgetter
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from epalm.runtime.offloading import kept_weights

_MOST_ELEMENTS = 65_536
_REMEMBERED = "remembered_fingerprint"


@torch.no_grad()
def fingerprint(module: nn.Module) -> str | None:
    """Hexadecimal SHA-256 of `module`'s parameters.

    None where there is nothing to read (the `meta` device), or nothing of the original signs (what torchao quantised).
    """
    if hasattr(module, _REMEMBERED):
        return cast(str, getattr(module, _REMEMBERED))
    digest = hashlib.sha256()
    imprints: dict[int, bytes] = {
        id(part.weight): cast(bytes, part.imprint) for part in module.modules() if hasattr(part, "imprint")
    }
    for name, parameter in sorted(kept_weights(module), key=itemgetter(0)):
        if parameter.is_meta or is_traceable_wrapper_subclass(parameter):
            return None
        digest.update(f"{name} ".encode() + (imprints.get(id(parameter)) or imprint(parameter)))
    return digest.hexdigest()


def remember_fingerprint(module: nn.Module) -> None:
    """Have `fingerprint` give what it gives now, whatever becomes of the weights."""
    setattr(module, _REMEMBERED, fingerprint(module))


@torch.no_grad()
def imprint(weight: Tensor) -> bytes:
    """What the fingerprint knows of one weight: its shape, and signs where it has any."""
    shape = f"{list(weight.shape)}\n".encode()
    flat = weight.detach().reshape(-1)
    count = min(flat.numel(), _MOST_ELEMENTS)
    if weight.is_meta or not count or not flat.is_floating_point():
        return shape
    chosen = torch.arange(count, device=flat.device) * flat.numel() // count
    return shape + np.packbits(torch.signbit(flat[chosen]).cpu().numpy()).tobytes()


@torch.no_grad()
def digest(module: nn.Module) -> str:
    """Hexadecimal SHA-256 of every bit of `module`'s parameters and buffers, their names, shapes and dtypes."""
    sha256 = hashlib.sha256()
    for name, tensor in sorted(kept_weights(module, buffers=True), key=itemgetter(0)):
        sha256.update(f"{name} {list(tensor.shape)} {tensor.dtype}\n".encode())
        sha256.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).cpu().numpy().data)
    return sha256.hexdigest()


def content_fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Hexadecimal SHA-256 of names, shapes and every value in float32: of an adapter, which is never rounded."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
