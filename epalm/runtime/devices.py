"""Where weights can be, and how precisely: what is given for them, checked before anything is loaded."""

from __future__ import annotations

from typing import Any

import torch

from epalm.errors import ConfigError
from epalm.settings.nearest import nearest

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}
"""What frozen weights can be held in, by name."""


def usable_device(given: str | torch.device, name: str = "device", *, meta: bool = True) -> torch.device:
    """The device that is meant.

    Args:
        given: such as `cpu` or `cuda:0`.
        name: of the setting.
        meta: whether `meta` is one, where weights have shapes and no values.

    Raises:
        ConfigError: there is no such device, or it cannot be used here.
    """
    try:
        device = torch.device(given)
        torch.empty(0, device=device)
        usable = meta or device.type != "meta"
    except (RuntimeError, AssertionError, ImportError, TypeError):
        usable = False
    if not usable:
        choices = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        raise ConfigError(f"{name}: '{given}' cannot be used here; choose from {', '.join(choices)}")
    return device


def usable_dtype(given: Any, name: str = "dtype", *, auto: bool = False) -> Any:
    """The dtype that is meant, or `auto`.

    Args:
        given: a dtype, or its name.
        name: of the setting.
        auto: whether `auto` is one of the choices.

    Raises:
        ConfigError: weights cannot be held in it.
    """
    if (auto and given == "auto") or given in _DTYPES.values():
        return given
    if isinstance(given, str) and given in _DTYPES:
        return _DTYPES[given]
    names = [*(["auto"] if auto else []), *_DTYPES]
    raise ConfigError(f"{name}: weights cannot be held in '{given}'{nearest(str(given), names)}")
