"""What was probably meant by a name that there is not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, names: Iterable[str], *, cutoff: float = 0.5, prefix: str = "") -> str:
    """'; did you mean ...?' where names begin with this one or one is near, else the names to choose from."""
    names = list(names)
    extended = [other for other in names if name and other.startswith(f"{name}_")]
    near = extended or difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
    if near:
        meant = " or ".join(f"'{prefix}{each}'" for each in near)
        return f"; did you mean {meant}?"
    return f"; choose from {', '.join(names)}" if names else ""
