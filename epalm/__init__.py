"""Give any frozen language model perception by training almost nothing (eP-ALM, ICCV 2023)."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from epalm.evaluation import AdapterSet, Answerer
    from epalm.models import PerceptualLM
    from epalm.settings import AdapterConfig

_HOMES = {
    "AdapterConfig": "epalm.settings",
    "AdapterSet": "epalm.evaluation",
    "Answerer": "epalm.evaluation",
    "PerceptualLM": "epalm.models",
}

__path__.append(
    str(Path(__file__).parent / "former_names")
)  # modules that were renamed are still found, with a warning

__all__ = ["AdapterConfig", "AdapterSet", "Answerer", "PerceptualLM"]


def __getattr__(name: str) -> Any:
    """Import on first use: torch and transformers take seconds, and `epalm --help` needs neither."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'epalm' has no attribute '{name}'")
