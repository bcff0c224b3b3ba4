"""Rows out of Arrow and Parquet files, as Hugging Face `datasets` writes them, by pyarrow alone.

`Dataset.save_to_disk` leaves a directory with `state.json`, which names its Arrow files; `DatasetDict.save_to_disk` one
such directory for each split. The hub keeps Parquet files named `train-00000-of-00003.parquet`, or in a directory named
after the split. A column of media holds {bytes, path}; which columns are pictures, clips and sounds, and what the
numbers of a class stand for, is written in the files' own schema.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epalm.data.published.files import read_json
from epalm.data.rows import MODALITIES
from epalm.data.system_files import files_below, is_system_file, lfs_advice
from epalm.errors import DataError

SUFFIXES = (".arrow", ".parquet")
_ROWS_AT_ONCE = 32
"""Of a Parquet file, decoded. Arrow files are mapped into memory, and read row by row."""
_INDEXED = b"ARROW1"
"""Begins Arrow files that others than `datasets` write, which end with an index."""
_SPLITS = ("train", "validation", "valid", "val", "dev", "testdev", "test", "eval")
"""What files of a split are named after, where no state.json says which belong together."""


@dataclass(frozen=True)
class ArrowRow:
    """One row of a table, as it is written there."""

    name: str
    """Its split, if that has a name, and its number in it from 0: what `dataset[number]` is."""
    media: dict[str, Any]
    """Modality -> {bytes, path}, bytes alone, or a path."""
    fields: dict[str, Any]
    """Name -> value of the other columns that were asked for; of a class its name."""
    folder: Path
    """Of the file that it stands in; paths may start there."""


def has_arrow_files(source: Path) -> bool:
    """Whether `source` is an Arrow or Parquet file, or a directory with some in it."""
    return source.suffix in SUFFIXES or (source.is_dir() and any(_files_below(source, *SUFFIXES)))


def read_arrow(source: Path, columns: Sequence[str], split: str | None = None) -> Iterator[ArrowRow]:
    """The rows of a table, one after the other: of Arrow files one is in memory, of Parquet files a row group at most.

    Args:
        source: one file, or a directory with files of one split or of several.
        columns: to read beside the media, where they are there.
        split: which; unset: the only one.

    Raises:
        DataError: pyarrow is not installed, no such split or several, or a file is damaged or has nothing to perceive.
    """
    _pyarrow()
    name, files = _chosen(source, split)
    number = 0
    for path in files:
        for media, fields in _rows(path, columns):
            yield ArrowRow(f"{name}/{number}".lstrip("/"), media, fields, path.parent)
            number += 1


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError('Arrow and Parquet files take the package pyarrow: pip install "epalm[parquet]"') from None
    return pyarrow


def _chosen(source: Path, split: str | None) -> tuple[str, list[Path]]:
    """The split that is asked for, and its files."""
    splits = _splits(source)
    names = ", ".join(sorted(filter(None, splits)))
    if split is not None and split not in splits:
        raise DataError(f"{source}: has no split '{split}'; {f'there are {names}' if names else 'it names none'}")
    if split is None and len(splits) > 1:
        raise DataError(f"{source}: has several splits ({names}); import each on its own, with --split")
    chosen = next(iter(splits)) if split is None else split
    return chosen, splits[chosen]


def _splits(source: Path) -> dict[str, list[Path]]:
    """The files of each split, by its name; those of none go by the empty one."""
    if source.is_file():
        return {"": [source]}
    saved = {
        state.parent.relative_to(source).as_posix(): state
        for state in _files_below(source, "state.json")
        if state.name == "state.json"
    }
    splits = {"" if name == "." else name: _saved_files(state) for name, state in saved.items()}
    if not splits:
        for path in sorted(_files_below(source, *SUFFIXES)):
            splits.setdefault(_split_of(path.relative_to(source)), []).append(path)
    return splits


def _saved_files(state: Path) -> list[Path]:
    """What `Dataset.save_to_disk` wrote."""
    content = read_json(state)
    try:
        if content.get("_indices_data_files"):
            raise DataError(
                f"{state.parent}: is a selection as old versions of `datasets` saved it; save it again with a newer one"
            )
        return [state.parent / str(file["filename"]) for file in content["_data_files"]]
    except (AttributeError, KeyError, TypeError):
        raise DataError(f"{state}: names no data files; save the data set again by `Dataset.save_to_disk`") from None


def _files_below(folder: Path, *endings: str) -> Iterator[Path]:
    return (
        path
        for path in files_below(folder)
        if path.name.endswith(endings) and not is_system_file(path.relative_to(folder).as_posix())
    )


def _split_of(path: Path) -> str:
    """The split that a file's name tells, or a directory's above it; empty where none does."""
    for part in (path.stem, *reversed(path.parent.parts)):
        words = part.lower().replace("_", "-").replace(".", "-").split("-")
        found = next((word for word in words if word in _SPLITS), None)
        if found is not None:
            return found
    return ""


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Media and fields of each row of one file."""
    pyarrow = _pyarrow()
    try:
        with pyarrow.memory_map(str(path)) as file:
            schema, batches = _opened(path, file)
            features = _features(schema)
            media = _media_columns(path, schema, features)
            classes = {name: _classes(features.get(name)) for name in columns if name in schema.names}
            needed = list(dict.fromkeys([*media.values(), *classes]))
            for batch in batches(needed):
                batch.validate(full=True)  # or damage, such as places beyond the file, would end the process
                at = {name: batch.column(name) for name in needed}
                for i in range(batch.num_rows):
                    yield (
                        {modality: at[name][i].as_py() for modality, name in media.items()},
                        {name: _class_name(at[name][i].as_py(), names) for name, names in classes.items()},
                    )
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())}){lfs_advice(path)}") from None


def _opened(path: Path, file: Any) -> tuple[Any, Callable[[list[str]], Iterator[Any]]]:
    """The schema of a file, and what gives its batches with the columns that are asked for, or more."""
    pyarrow = _pyarrow()
    if path.suffix == ".parquet":
        table = pyarrow.parquet.ParquetFile(file)
        return table.schema_arrow, lambda columns: table.iter_batches(_ROWS_AT_ONCE, columns=columns)
    indexed = file.read(len(_INDEXED)) == _INDEXED
    file.seek(0)
    if indexed:
        parts = pyarrow.ipc.open_file(file)
        return parts.schema, lambda _: map(parts.get_batch, range(parts.num_record_batches))
    stream = pyarrow.ipc.open_stream(file)
    return stream.schema, lambda _: iter(stream)


def _features(schema: Any) -> dict[str, Any]:
    """What `datasets` says of each column; nothing where the file is somebody else's."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, Mapping)}
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}


def _media_columns(path: Path, schema: Any, features: Mapping[str, Any]) -> dict[str, str]:
    """Modality -> the column that holds it; of several the one named after it, else the first."""
    found: dict[str, str] = {}
    for name in schema.names:
        kind = str(features.get(name, {}).get("_type", "")).lower()
        modality = kind if kind in MODALITIES else name
        if modality in MODALITIES and (modality not in found or name == modality):
            found[modality] = name
    if not found:
        raise DataError(
            f"{path}: no column holds pictures, clips or sounds; name one {', '.join(MODALITIES[:-1])} or "
            f"{MODALITIES[-1]}; there are {', '.join(schema.names)}"
        )
    return found


def _classes(feature: Any) -> Sequence[str] | None:
    """What the numbers of a class, or of a list of classes, stand for."""
    if not isinstance(feature, Mapping):
        return None
    return feature.get("names") or _classes(feature.get("feature"))


def _class_name(value: Any, classes: Sequence[str] | None) -> Any:
    """Of a class its name."""
    if isinstance(value, list):
        return [_class_name(part, classes) for part in value]
    return classes[value] if classes and isinstance(value, int) and 0 <= value < len(classes) else value
