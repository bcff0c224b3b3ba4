"""`epalm.config`, where the settings were in version 0.1; `epalm.settings` has them now."""

import warnings

from epalm.settings import PRESETS, AdapterConfig, Settings, read_yaml

__all__ = ["PRESETS", "AdapterConfig", "Settings", "read_yaml"]

warnings.warn(
    "epalm.config has become epalm.settings; the old name goes with version 0.3", DeprecationWarning, stacklevel=2
)
