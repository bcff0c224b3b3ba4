"""Give any frozen language model perception by training almost nothing (eP-ALM, ICCV 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from epalm.config import AdapterConfig
    from epalm.models import PerceptualLM

__all__ = ["AdapterConfig", "PerceptualLM"]


def __getattr__(name: str) -> Any:
    """Import on first use: torch and transformers take seconds, and `epalm --help` needs neither."""
    if name == "PerceptualLM":
        from epalm.models import PerceptualLM

        return PerceptualLM
    if name == "AdapterConfig":
        from epalm.config import AdapterConfig

        return AdapterConfig
    raise AttributeError(f"module 'epalm' has no attribute '{name}'")
