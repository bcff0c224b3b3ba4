"""How precisely a frozen language model is held where nobody says it: by what the hardware multiplies, never by timing.

bfloat16 where the device multiplies it natively, float32 everywhere else. float16 is never chosen: the gradients that
pass through the frozen layers may overflow in it. Encoders stay float32: bfloat16 changes a ViT-B/16's features by 1 %
(and halves its time on such a CPU), every file is perceived once, and float32 features are the same on every device.
"""

from __future__ import annotations

import platform
from typing import Literal

import torch

Precision = torch.dtype | Literal["auto", "float32", "bfloat16", "float16"]
"""A dtype or its name, or what pays on the device."""


def best_dtype(device: str | torch.device | None) -> torch.dtype:
    """What `auto` is for a language model on `device` (None: the CPU)."""
    return torch.bfloat16 if _multiplies_bf16(torch.device(device or "cpu")) else torch.float32


def best_attention(dtype: torch.dtype, device: str | torch.device | None) -> str | None:
    """The attention code for a language model so held, where nobody says it; None: transformers' choice.

    On the CPU torch's fused attention takes much longer backwards in bfloat16 than all else together.
    """
    on_cpu = torch.device(device or "cpu").type == "cpu"
    return "eager" if on_cpu and dtype == torch.bfloat16 else None


def _multiplies_bf16(device: torch.device) -> bool:
    """Whether `device` has instructions for it, rather than going by way of float32."""
    if device.type == "cuda":
        return bool(torch.version.hip) or torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if platform.machine().lower() in ("aarch64", "arm64"):
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    # torch has no public query for these, and names them differently from one version to the next
    queries = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(query() for query in queries if query is not None)
