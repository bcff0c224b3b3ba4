"""Lines that stop nothing: told to a function of whoever calls the package, else by Python's warnings."""

from __future__ import annotations

import warnings
from collections.abc import Callable

OnWarning = Callable[[str], None]
"""Told in one line what stops nothing."""


def python_warning(line: str) -> None:
    """Tell it by Python's own `warnings`, as where nobody else is named."""
    warnings.warn(line, stacklevel=2)
