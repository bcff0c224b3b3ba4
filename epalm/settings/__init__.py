"""The base of typed settings, and the settings that an adapter keeps."""

from epalm.settings.adapter import PRESETS, AdapterConfig
from epalm.settings.base import Settings
from epalm.settings.yaml_files import read_yaml

__all__ = ["PRESETS", "AdapterConfig", "Settings", "read_yaml"]
