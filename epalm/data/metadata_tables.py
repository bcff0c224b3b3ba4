"""Folders with metadata: `metadata.jsonl` or `metadata.csv`, whose rows name a file beside it and say what is in it.

This is the layout of ImageFolder, VideoFolder and AudioFolder of Hugging Face `datasets`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epalm.data.import_report import ImportReport
from epalm.data.published.files import read_csv, read_objects
from epalm.data.system_files import files_below, is_system_file
from epalm.errors import DataError

NAMES = ("metadata.jsonl", "metadata.csv")
"""The first that is there is read."""
_FILE_NAME = "file_name"
_EXAMPLE = '{"file_name": "a.jpg", "text": "..."}'


@dataclass(frozen=True)
class TableRow:
    """One row of a table."""

    folder: Path
    """Where its path starts."""
    place: str
    """Table and row, for messages."""
    fields: Mapping[str, Any]

    @property
    def file_name(self) -> str:
        """The path of its file; empty where it names none."""
        name = self.fields.get(_FILE_NAME)
        return name.strip() if isinstance(name, str) else ""


def find_tables(source: Path, report: ImportReport) -> list[Path]:
    """The tables below a directory, one in each that has any."""
    found: dict[Path, dict[str, Path]] = {}
    for path in files_below(source):
        if path.name in NAMES and not is_system_file(path.relative_to(source).as_posix()):
            found.setdefault(path.parent, {})[path.name] = path
    for tables in found.values():
        read, *others = (tables[name] for name in NAMES if name in tables)
        for other in others:
            report.note(f"tables were not read, because {read.name} lies beside them", str(other))
    return [next(tables[name] for name in NAMES if name in tables) for tables in found.values()]


def read_table(table: Path) -> Iterator[TableRow]:
    """The rows of a table.

    Raises:
        DataError: it cannot be read, is not laid out as a table, or no row of it names a file.
    """
    if table.suffix == ".csv":
        rows = [
            (f"row {number}", {name.strip(): value for name, value in row.items()})
            for number, row in enumerate(read_csv(table), start=1)
        ]
    else:
        rows = read_objects(table, _EXAMPLE)
    if rows and not any(_FILE_NAME in fields for _, fields in rows):
        raise DataError(f"{table}: has no field '{_FILE_NAME}'; there are {', '.join(map(repr, rows[0][1]))}")
    for place, fields in rows:
        yield TableRow(table.parent, f"{table}, {place}", fields)
