"""Training files that cannot be read: which rows are left out for them, and when there are too many."""

from __future__ import annotations

from collections.abc import Sequence
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
        header = f"{self.rows} row{'s' if self.rows > 1 else ''} skipped, for {count} that cannot be read:"
        return "\n".join([header, *(f"  {path}: {why}" for path, why in self.files.items())])


def without_bad_media(
    rows: Sequence[Row],
    perceived: PerceivedFiles,
    max_share: float,
    where: str = "",
    *,
    held_out: Sequence[Row] = (),
) -> tuple[list[Row], list[Row], Skipped]:
    """The rows whose files could be read, those held out whose files could, and what is left out of both.

    Args:
        rows: perceived for training already.
        perceived: knows which files cannot be read.
        max_share: the largest share of their files that may be.
        where: the manifest, for messages.
        held_out: rows that are set aside from training.

    Raises:
        MediaError: there are more, or no row is left; the first few are named.
    """
    good, held = ([row for row in side if not _bad(row, perceived)] for side in (rows, held_out))
    both = [*rows, *held_out]
    files = {path: _reason(path, error) for row in both for path, error in _bad(row, perceived)}
    media_files = {path for row in both for modality, path in row.media.items() if modality in perceived.modalities}
    problem = None
    if len(files) > max_share * len(media_files):
        problem = f"more than the {100 * max_share:g} % that data.most_bad_media allows"
    elif files and not good:
        problem = "and no row is left"
    elif held_out and not held:
        problem = "and of the rows held out (data.holdout) none is left"
    if problem is not None:
        raise MediaError(_too_many(files, len(media_files), problem, where))
    return good, held, Skipped(len(both) - len(good) - len(held), files)


def _bad(row: Row, perceived: PerceivedFiles) -> list[tuple[Path, MediaError]]:
    return [(file[1], perceived.bad[file]) for file in row.media.items() if file in perceived.bad]


def _reason(path: Path, error: MediaError) -> str:
    return str(error).removeprefix(f"{path}: ")


def _too_many(files: dict[Path, str], of_files: int, problem: str, where: str) -> str:
    first = "; ".join(f"{path}: {why}" for path, why in list(files.items())[:_MOST_NAMED])
    rest = f"; and {len(files) - _MOST_NAMED} more" if len(files) > _MOST_NAMED else ""
    count = f"{len(files)} of {of_files} files cannot be read, {problem}"
    return f"{where + ': ' if where else ''}{count}: {first}{rest}"
