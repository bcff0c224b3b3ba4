"""Two ways to know frozen weights again: a fingerprint that survives rounding, and a digest that nothing survives.

By the fingerprint an adapter knows the backbone it was trained on, whatever that is held in; by the digest a feature
store knows the very numbers that made its features. The fingerprint is SHA-256 over every parameter's name, shape and
the signs of up to 65,536 evenly spaced elements. Signs survive rounding, so the same weights give the same print in
float32, float16 and bfloat16 and on every device.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import nn

_MOST_ELEMENTS = 65_536


@torch.no_grad()
def fingerprint(module: nn.Module) -> str | None:
    """Hexadecimal SHA-256 of `module`'s parameters, or None where there is nothing to read (the `meta` device)."""
    digest = hashlib.sha256()
    for name, parameter in sorted(module.named_parameters()):
        if parameter.is_meta:
            return None
        digest.update(f"{name} {list(parameter.shape)}\n".encode())
        flat = parameter.detach().reshape(-1)
        count = min(flat.numel(), _MOST_ELEMENTS)
        if count and flat.is_floating_point():
            chosen = torch.arange(count, device=flat.device) * flat.numel() // count
            digest.update(np.packbits(torch.signbit(flat[chosen]).cpu().numpy()).tobytes())
    return digest.hexdigest()


@torch.no_grad()
def digest(module: nn.Module) -> str:
    """Hexadecimal SHA-256 of every bit of `module`'s parameters and buffers, their names, shapes and dtypes."""
    found = hashlib.sha256()
    for name, tensor in sorted([*module.named_parameters(), *module.named_buffers()], key=lambda pair: pair[0]):
        found.update(f"{name} {list(tensor.shape)} {tensor.dtype}\n".encode())
        found.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).cpu().numpy().data)
    return found.hexdigest()
