"""What a reader of a published data set is, and what it gives: rows that can be used, and an account of the others.

A data set comes in one or more layouts: its official files, or the rows that earlier work made of them. A reader turns
the files of one layout into items; here, items become rows, by finding the media they name below the directory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from epalm.data.published.folder import Folder
from epalm.data.rows import Row
from epalm.errors import ConfigError, DataError
from epalm.settings.nearest import nearest

_LAYOUT_TROUBLE = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What a reader runs into where a file is not laid out as it expects."""


@dataclass(frozen=True)
class Item:
    """One row of a data set before its media are looked for."""

    media: tuple[str, ...]
    """Names the file may have, the likeliest first; one without a suffix stands for any suffix of its modality."""
    question: str | None = None
    targets: tuple[str, ...] = ()
    weights: tuple[float, ...] | None = None
    id: str = ""
    """What evaluation servers file its prediction under."""
    groups: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LeftOut:
    """A row that a reader leaves out, and why."""

    reason: str


Read = Callable[..., Iterable[Item | LeftOut]]
"""(split, path of each file of the layout, None for an optional one that is not there) -> items."""


@dataclass(frozen=True)
class Layout:
    """One way in which the annotations of a data set are laid out."""

    name: str
    files: Mapping[str, tuple[str, ...]]
    """Split -> names of the files that are needed; alternatives are parted by `|`, an optional file ends in `?`."""
    read: Read


@dataclass(frozen=True)
class Published:
    """One published data set."""

    name: str
    title: str
    modality: str
    layouts: tuple[Layout, ...]
    """The first whose files are there is read."""
    home: str
    """Where the annotations are to be had."""
    media_home: str
    """Where the media are to be had."""
    results: str
    """Format of predictions, as its evaluation server or its evaluator takes them; see `epalm.metrics.result_files`."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Every split of any layout."""
        return tuple(dict.fromkeys(split for layout in self.layouts for split in layout.files))

    def require_split(self, split: str) -> None:
        """See that there is a split of that name.

        Raises:
            ConfigError: there is none; all are named.
        """
        if split not in self.splits:
            raise ConfigError(f"{self.name} has no split '{split}'; choose from {', '.join(self.splits)}")

    def is_there(self, split: str, folder: Folder) -> bool:
        """Whether the annotations of the split are there, in any layout."""
        return any(_found(layout, split, folder) is not None for layout in self.layouts)

    def files_of(self, split: str) -> str:
        """The files that the split is read from, for messages."""
        return ", or ".join(
            " and ".join(_readable(name) for name in layout.files[split] if not name.endswith("?"))
            for layout in self.layouts
            if split in layout.files
        )


@dataclass(frozen=True)
class PublishedSplit:
    """One split as it was found on disk."""

    rows: list[Row]
    """Those whose media are there, in the order of the annotations."""
    layout: str
    files: tuple[Path, ...]
    """The annotations."""
    missing: dict[str, int]
    """Name of each media file that is not there -> rows that want it."""
    media: int
    """Distinct media files that the annotations name."""
    left_out: dict[str, int]
    """Reason -> rows left out for it."""
    nearest: tuple[str, str] | None = None
    """Of the missing files one, and the name of a file that differs from it in upper and lower case alone."""


_DATASETS: dict[str, Published] = {}


def register(dataset: Published) -> Published:
    """Enter a data set under its name."""
    _DATASETS[dataset.name] = dataset
    return dataset


def dataset_names() -> tuple[str, ...]:
    """All data sets there are, in alphabetical order."""
    return tuple(sorted(_DATASETS))


def get_dataset(name: str) -> Published:
    """The data set of that name.

    Raises:
        ConfigError: there is none; the nearest, or all, are named.
    """
    if name in _DATASETS:
        return _DATASETS[name]
    raise ConfigError(f"unknown data set '{name}'{nearest(name, dataset_names())}")


def read_split(dataset: Published, split: str, folder: Folder) -> PublishedSplit:
    """One split of a data set, from files anywhere below a directory.

    Args:
        dataset: from `get_dataset`.
        split: one of its splits.
        folder: the directory.

    Raises:
        ConfigError: the data set has no such split.
        DataError: its annotations are not there, or not laid out as published.
    """
    dataset.require_split(split)
    layout, paths = _annotations(dataset, split, folder)
    files = tuple(path for path in paths if path is not None)
    rows: list[Row] = []
    media_names: set[str] = set()
    missing: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    try:
        for item in layout.read(split, *paths):
            if isinstance(item, LeftOut):
                left_out[item.reason] += 1
                continue
            media_names.add(item.media[0])
            path = folder.media(dataset.modality, item.media, split)
            if path is None:
                missing[item.media[0]] += 1
            else:
                media = {dataset.modality: path}
                rows.append(Row(media, item.question, item.targets, item.weights, item.id, groups=item.groups))
    except _LAYOUT_TROUBLE as error:
        where = " and ".join(map(str, files))
        problem = f"no {error}" if isinstance(error, KeyError) else error
        raise DataError(f"{where}: not laid out as {dataset.title} is published, {layout.name} ({problem})") from error
    near = ((name, folder.nearest(name)) for name in missing)
    nearest = next(((name, other) for name, other in near if other is not None), None)
    return PublishedSplit(rows, layout.name, files, dict(missing), len(media_names), dict(left_out), nearest)


def _readable(name: str) -> str:
    return name.replace("|", " or ")


def _annotations(dataset: Published, split: str, folder: Folder) -> tuple[Layout, list[Path | None]]:
    """The first layout whose files are there, and the files."""
    for layout in dataset.layouts:
        paths = _found(layout, split, folder)
        if paths is not None:
            return layout, paths
    raise DataError(
        f"{folder.root}: no annotations of {dataset.name} {split}; "
        f"it is read from {dataset.files_of(split)}, to be had from {dataset.home}"
    )


def _found(layout: Layout, split: str, folder: Folder) -> list[Path | None] | None:
    """The files of a split, or None where one that is needed is not there."""
    names = layout.files.get(split, ())
    paths = [folder.file(name.removesuffix("?").split("|"), split) for name in names]
    complete = all(path is not None or name.endswith("?") for name, path in zip(names, paths, strict=True))
    return paths if names and complete else None
