"""What to know of captions and answers that are trained on, which look right and teach something else."""

from __future__ import annotations

from collections.abc import Sequence

from epalm.data.rows import Row
from epalm.metrics.printed_lists import is_printed_list

_LONGEST = 60
"""Characters of a text that are shown."""


def notes_on_targets(rows: Sequence[Row]) -> tuple[str, ...]:
    """A line for each thing that a user should know; scores have notes of their own, `epalm.metrics.notes`."""
    printed = [row for row in rows if any(map(is_printed_list, row.targets))]
    if not printed:
        return ()
    first = printed[0]
    text = next(filter(is_printed_list, first.targets))
    shown = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
    return (
        f"{len(printed)} of {len(rows)} rows have a printed list as one caption or answer, first row "
        f"{first.number or first.id}: {shown!r}; it is learned as it stands: write a list of texts instead",
    )
