"""Modules that were renamed are found under their former names for one version, with a warning."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import epalm
from epalm.training.conversion import convert_original


@pytest.mark.parametrize(
    ("former", "name", "value"),
    [
        ("epalm.config", "AdapterConfig", epalm.AdapterConfig),
        ("epalm.conversion", "convert_original", convert_original),
    ],
)
def test_the_former_module_gives_the_same_object(former: str, name: str, value: object) -> None:
    sys.modules.pop(former, None)
    with pytest.warns(DeprecationWarning, match=f"{former} has become"):
        assert getattr(importlib.import_module(former), name) is value


@pytest.mark.parametrize("module", ["epalm", "epalm.cli"])
def test_launchers_may_start_the_command_line_as_a_module(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: epalm ")
