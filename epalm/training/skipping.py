"""Training files that cannot be read: which rows are left out for them, and when there are too many."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from epalm.data.file_features import PerceivedFiles
from epalm.data.rows import Row
from epalm.errors import MediaError

_MOST_NAMED = 3


@dataclass(frozen=True)
class Skipped:
    """What training went without."""

    rows: int = 0
    """Rows left out."""
    files: dict[Path, str] = field(default_factory=dict)
    """Why each file cannot be read, in the order of the rows."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"rows": self.rows, "files": [{"file": str(path), "reason": why} for path, why in self.files.items()]}

    def as_text(self) -> str:
        """For people: a line, and one for every file."""
        count = f"{len(self.files)} file{'s' if len(self.files) > 1 else ''}"
        told = f"{self.rows} row{'s' if self.rows > 1 else ''} skipped, for {count} that cannot be read:"
        return "\n".join([told, *(f"  {path}: {why}" for path, why in self.files.items())])


def without_bad_media(
    rows: Sequence[Row], perceived: PerceivedFiles, most: float, where: str = ""
) -> tuple[list[Row], Skipped]:
    """The rows whose files could be read, and what is left out.

    Args:
        rows: perceived for training already.
        perceived: knows which files cannot be read.
        most: the largest share of their files that may be.
        where: the manifest, for messages.

    Raises:
        MediaError: there are more; the first few are named.
    """
    good = [row for row in rows if not _bad(row, perceived)]
    files = {path: _reason(path, error) for row in rows for path, error in _bad(row, perceived)}
    named = {path for row in rows for modality, path in row.media.items() if modality in perceived.modalities}
    if len(files) > most * len(named) or (files and not good):
        raise MediaError(_too_many(files, named, most, where))
    return good, Skipped(len(rows) - len(good), files)


def _bad(row: Row, perceived: PerceivedFiles) -> list[tuple[Path, MediaError]]:
    return [(one[1], perceived.bad[one]) for one in row.media.items() if one in perceived.bad]


def _reason(path: Path, error: MediaError) -> str:
    return str(error).removeprefix(f"{path}: ")


def _too_many(files: dict[Path, str], named: Collection[Path], most: float, where: str) -> str:
    first = "; ".join(f"{path}: {why}" for path, why in list(files.items())[:_MOST_NAMED])
    rest = f"; and {len(files) - _MOST_NAMED} more" if len(files) > _MOST_NAMED else ""
    most_allowed = f"more than the {100 * most:g} % that data.most_bad_media allows"
    limit = most_allowed if len(files) > most * len(named) else "and no row is left"
    count = f"{len(files)} of {len(named)} files cannot be read, {limit}"
    return f"{where + ': ' if where else ''}{count}: {first}{rest}"
