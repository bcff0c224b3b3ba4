"""What came of an import: rows, and an account of everything that became none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from epalm.data.rows import Row

_MOST_NAMED = 5


@dataclass
class ImportReport:
    """What came of it."""

    rows: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Reason -> samples left out for it."""
    unread: Counter[str] = field(default_factory=Counter)
    """Ending -> files of samples that nothing was read from."""
    notes: dict[str, tuple[int, str]] = field(default_factory=dict)
    """What else a user should know -> how often it was met, and the first case."""

    def counted(self, rows: Iterable[Row | str]) -> Iterator[Row]:
        """The rows; of what is left out there is the reason instead."""
        for row in rows:
            if isinstance(row, Row):
                self.rows += 1
                yield row
            else:
                self.left_out[row] += 1

    def hide(self, name: str) -> None:
        """Count a file that is none of the data's: hidden, or what an operating system left."""
        self.note("hidden files passed over, such as macOS and Windows leave", name)

    def note(self, what: str, example: str) -> None:
        """Count a case of `what`, which reads on from a number; the first example is kept."""
        count, first = self.notes.get(what, (0, example))
        self.notes[what] = count + 1, first

    def as_text(self) -> str:
        """One line."""
        parts = [f"{self.rows} rows", *(f"{count} left out: {why}" for why, count in self.left_out.items())]
        parts += [f"{count} {what}: {example}" for what, (count, example) in self.notes.items()]
        if self.unread:
            most = ", ".join(f"{count} {ending}" for ending, count in self.unread.most_common(_MOST_NAMED))
            parts.append(f"files of samples that were not read: {most}{', ...' * (len(self.unread) > _MOST_NAMED)}")
        return "; ".join(parts)
