"""A fingerprint of frozen weights, by which an adapter knows the backbone it was trained on.

SHA-256 over every parameter's name, shape and the signs of up to 65,536 evenly spaced elements. Signs survive
rounding, so the same weights give the same print in float32, float16 and bfloat16 and on every device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

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


def content_fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Hexadecimal SHA-256 of names, shapes and every value in float32: of an adapter, which is never rounded."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
