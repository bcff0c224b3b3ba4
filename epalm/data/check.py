"""What of a published data set is there, what is missing and where it is to be had: asked before a GPU is hired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epalm.data.manifest import write_manifest
from epalm.data.published import Folder, Published, PublishedSplit, get_dataset, read_split
from epalm.errors import DataError

_MOST_NAMED = 3


@dataclass(frozen=True)
class DataCheck:
    """What was found of one data set."""

    dataset: Published
    folder: Path
    found: Mapping[str, PublishedSplit]
    """Splits whose annotations are there."""
    not_there: Mapping[str, str]
    """Split -> the files that it is read from."""
    unreadable: Mapping[str, str]
    """Split whose files are there -> why it cannot be read."""

    @property
    def usable(self) -> bool:
        """Whether any split can be read, and has media."""
        return any(split.rows for split in self.found.values())

    def unusable(self, splits: Sequence[str]) -> list[str]:
        """Those of `splits` that cannot be read, or have no media."""
        return [name for name in splits if name not in self.found or not self.found[name].rows]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; every missing file is named."""
        return {
            "dataset": self.dataset.name,
            "directory": str(self.folder),
            "splits": {
                name: {
                    "layout": split.layout,
                    "annotations": [str(path) for path in split.files],
                    "rows": len(split.rows),
                    "rows_with_answers": sum(bool(row.targets) for row in split.rows),
                    "media": split.media,
                    "missing_media": list(split.missing),
                    "rows_without_media": sum(split.missing.values()),
                    "left_out": split.left_out,
                }
                for name, split in self.found.items()
            },
            "not_there": dict(self.not_there),
            "unreadable": dict(self.unreadable),
            "annotations_from": self.dataset.home,
            "media_from": self.dataset.media_home,
        }

    def as_text(self) -> str:
        """A line for each split, and where the rest is to be had."""
        lines = [f"{self.dataset.title} in {self.folder}"]
        lines += [f"  {name}: {_summary(self.dataset, split)}" for name, split in self.found.items()]
        lines += [f"  {name}: cannot be read: {why}" for name, why in self.unreadable.items()]
        lines += [f"  {name}: not there; it is read from {files}" for name, files in self.not_there.items()]
        lines += [f"  annotations: {self.dataset.home}", f"  {self.dataset.modality}: {self.dataset.media_home}"]
        return "\n".join(lines)


def check_dataset(name: str, folder: str | Path, splits: Sequence[str] = ()) -> DataCheck:
    """Look for a published data set below a directory; a split that cannot be read is told of beside the others.

    Args:
        name: of the data set.
        folder: where it was put.
        splits: those to look for; without, all.

    Raises:
        ConfigError: there is no such data set or split.
        DataError: there is no such directory.
    """
    dataset = get_dataset(name)
    for split in splits:
        dataset.require_split(split)
    place = Folder(folder)
    found: dict[str, PublishedSplit] = {}
    not_there: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    for split in splits or dataset.splits:
        if not dataset.is_there(split, place):
            not_there[split] = dataset.files_of(split)
            continue
        try:
            found[split] = read_split(dataset, split, place)
        except DataError as error:
            unreadable[split] = str(error)
    return DataCheck(dataset, place.root, found, not_there, unreadable)


def write_rows(
    name: str, folder: str | Path, split: str, output: Path, *, skip_missing: bool = False
) -> PublishedSplit:
    """Write one split of a published data set as a manifest to train on or evaluate.

    Args:
        name: of the data set.
        folder: where it was put.
        split: of the data set.
        output: the manifest; its paths are relative to it.
        skip_missing: leave rows out whose media are not there, instead of refusing.

    Raises:
        ConfigError: there is no such data set or split.
        DataError: the annotations or, unless they are skipped, some media are not there, or no row is left.
    """
    found = usable_split(
        name, folder, split, skip_missing=skip_missing, remedy="leave their rows out with --skip-missing"
    )
    write_manifest(found.rows, output)
    return found


def usable_split(name: str, folder: str | Path, split: str, *, skip_missing: bool, remedy: str) -> PublishedSplit:
    """One split of a published data set, whose media are there.

    Args:
        name: of the data set.
        folder: where it was put.
        split: of the data set.
        skip_missing: leave rows out whose media are not there, instead of refusing.
        remedy: how to say so, for messages.

    Raises:
        ConfigError: there is no such data set or split.
        DataError: the annotations or, unless they are skipped, some media are not there, or no row is left.
    """
    dataset = get_dataset(name)
    found = read_split(dataset, split, Folder(folder))
    if not found.rows or (found.missing and not skip_missing):
        advice = f" put it there, or {remedy}" if found.rows else ""
        raise DataError(
            f"{folder}: {name} {split}: {_summary(dataset, found)}; media: {dataset.media_home};{advice}".rstrip(";")
        )
    return found


def describe_split(name: str, split: PublishedSplit) -> str:
    """What was read, and what was not."""
    return _summary(get_dataset(name), split)


def _summary(dataset: Published, split: PublishedSplit) -> str:
    answered = sum(bool(row.targets) for row in split.rows)
    parts = [f"{len(split.rows)} rows ({split.layout})"]
    if answered < len(split.rows):
        parts.append(f"{len(split.rows) - answered} of them without answers or captions")
    wrong = sum(row.counts_as_wrong for row in split.rows)
    if wrong:
        parts.append(f"{wrong} of them without an answer that scores, which count as wrong")
    if split.missing:
        names = list(split.missing)
        examples = ", ".join(names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")
        rows = sum(split.missing.values())
        parts.append(f"{len(names)} of {split.media} {dataset.modality} files missing, for {rows} rows: {examples}")
        if split.nearest is not None:
            name, other = split.nearest
            parts.append(f"'{other}' is there, which differs from '{name}' in upper and lower case")
    else:
        parts.append(f"all {split.media} {dataset.modality} files there")
    parts += [f"{count} left out: {reason}" for reason, count in split.left_out.items()]
    return "; ".join(parts)
