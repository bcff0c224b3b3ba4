"""What a file of ready features holds, whoever made it and in whatever framework.

.npz           ids (N,) of text, features (N, E), (N, K, E) or (N, K, S, E)
.safetensors   features, and the metadata entry `ids`, a JSON list of N texts
.parquet       columns id and features (a list, or lists in lists); takes pyarrow
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from epalm.data.store.shards import DTYPES
from epalm.data.system_files import lfs_advice
from epalm.errors import DataError

_KINDS = ("float64", *DTYPES)
_OF_TENSORS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class FeatureFile:
    """What a file holds; features are read piece by piece, where that is possible."""

    ids: Sequence[str]
    shape: tuple[int, ...]
    """Of all features, (N, ...)."""
    kind: str
    """Of their numbers, such as `float32`."""
    part: Callable[[int, int], Tensor]
    """From item to item -> features (n, ...)."""


def read_feature_file(source: Path) -> FeatureFile:
    """Look into a file.

    Raises:
        DataError: it cannot be read, or does not hold features with their ids.
    """
    readers = {".npz": _read_npz, ".safetensors": _read_safetensors, ".parquet": _read_parquet}
    if source.suffix not in readers:
        raise DataError(f"{source}: features are read from {', '.join(readers)}")
    if not source.is_file():
        raise DataError(f"{source}: no such file")
    try:
        contents = readers[source.suffix](source)
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
        SafetensorError,
    ) as e:
        reason = " ".join(str(e).split())
        raise DataError(
            f"{source}: holds no features with their ids ({reason}){lfs_advice(source)}; see docs/features.md"
        ) from None
    if contents.kind not in _KINDS:
        raise DataError(f"{source}: features are of {contents.kind}; they must be of float16, bfloat16 or float32")
    if not 2 <= len(contents.shape) <= 4 or 0 in contents.shape:
        raise DataError(
            f"{source}: features are of shape {contents.shape}; it must be (N, E), (N, K, E) or (N, K, S, E)"
        )
    if len(contents.ids) != contents.shape[0]:
        raise DataError(
            f"{source}: {len(contents.ids)} ids for {contents.shape[0]} features; there must be one for each"
        )
    return contents


def _read_npz(source: Path) -> FeatureFile:
    if not zipfile.is_zipfile(source):  # numpy would take an array alone for what it is
        raise ValueError("no archive of arrays, as numpy.savez writes it")
    with np.load(source, allow_pickle=False) as file:
        ids, features = file["ids"], file["features"]
    if not (
        isinstance(ids, np.ndarray) and isinstance(features, np.ndarray)
    ):  # numpy gives what it cannot read as bytes
        raise ValueError("ids and features are no arrays")
    if ids.ndim != 1:
        raise ValueError(f"ids are of shape {ids.shape}, not (N,)")
    if not features.dtype.isnative:
        features = features.astype(features.dtype.newbyteorder("="))
    return FeatureFile(
        _texts(ids.tolist()),
        features.shape,
        _kind(features),
        lambda first, last: torch.from_numpy(features[first:last]),
    )


def _read_safetensors(source: Path) -> FeatureFile:
    file = safe_open(source, framework="pt")
    ids = json.loads((file.metadata() or {})["ids"])
    if not isinstance(ids, list):
        raise ValueError("the metadata entry ids is no list")
    rows = file.get_slice("features")
    kind = str(rows.get_dtype())
    return FeatureFile(
        _texts(ids), tuple(rows.get_shape()), _OF_TENSORS.get(kind, kind), lambda first, last: rows[first:last]
    )


def _read_parquet(source: Path) -> FeatureFile:
    try:
        from pyarrow import parquet
    except ImportError:
        raise DataError(f'{source}: reading it takes the package pyarrow: pip install "epalm[parquet]"') from None
    table = parquet.read_table(source, columns=["id", "features"])
    ids = _texts(table["id"].to_pylist())
    item = _dense(table["features"].slice(0, 1))

    def part(first: int, last: int) -> Tensor:
        try:
            features = _dense(table["features"].slice(first, last - first))
        except ValueError as error:
            raise DataError(f"{source}: {error} (rows {first} to {last - 1})") from None
        if features.shape[1:] != item.shape[1:]:
            raise DataError(f"{source}: the features of '{ids[first]}' are of another shape than those of '{ids[0]}'")
        return torch.from_numpy(features)

    return FeatureFile(ids, (len(ids), *item.shape[1:]), _kind(item), part)


def _texts(values: Sequence[Any]) -> list[str]:
    """Ids as text: bytes are UTF-8, whole numbers are told by their digits."""
    ids = []
    for value in values:
        if not isinstance(value, str | bytes | int) or isinstance(value, bool):
            raise ValueError(f"the id {value!r} is no text")
        try:
            ids.append(value.decode() if isinstance(value, bytes) else str(value))
            ids[-1].encode("utf-8", "surrogateescape")
        except UnicodeError:
            raise ValueError(f"the id {value!r} is not UTF-8") from None
    return ids


def _kind(features: np.ndarray) -> str:
    return "text" if features.dtype.kind in "SU" else features.dtype.name


def _dense(column: Any) -> np.ndarray:
    """Lists in lists of a column of Arrow -> one array (n, ...)."""
    from pyarrow import compute

    values = column.combine_chunks()
    shape = [len(values)]
    while hasattr(values.type, "value_type"):
        lengths = compute.list_value_length(values).unique().to_pylist()
        if len(lengths) > 1 or None in lengths:
            raise ValueError("features are not all of one shape")
        shape += lengths or [0]
        values = values.flatten()
    numbers = np.array(values.to_numpy(zero_copy_only=False))
    if values.null_count or numbers.dtype == object:
        raise ValueError("features must all be numbers")
    return numbers.reshape(shape)
