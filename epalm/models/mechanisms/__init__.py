"""Ways for perception into a frozen decoder: eP-ALM's slot, its published rivals, and relatives that came after.

A new one is a file with a subclass of `Mechanism` under `register_mechanism`, its import here, and a preset in
`epalm.settings.adapter`.
"""

from epalm.models.mechanisms import (
    cross_attention,
    deepstack,
    depalm_inner,
    depalm_resampler,
    limber,
    llama_adapter,
    mapl,
    memvp,
    promptfuse,
    slot,
)
from epalm.models.mechanisms.base import FeatureShape, Mechanism, Perceived
from epalm.models.mechanisms.registry import mechanism_named, mechanism_names, register_mechanism

__all__ = [
    "FeatureShape",
    "Mechanism",
    "Perceived",
    "cross_attention",
    "deepstack",
    "depalm_inner",
    "depalm_resampler",
    "limber",
    "llama_adapter",
    "mapl",
    "mechanism_named",
    "mechanism_names",
    "memvp",
    "promptfuse",
    "register_mechanism",
    "slot",
]
