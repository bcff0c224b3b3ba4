"""`epalm.conversion`, where `convert_original` was in version 0.1; `epalm.training.conversion` has it now."""

import warnings

from epalm.training.conversion import convert_original

__all__ = ["convert_original"]

warnings.warn(
    "epalm.conversion has become epalm.training.conversion; the old name goes with version 0.3",
    DeprecationWarning,
    stacklevel=2,
)
