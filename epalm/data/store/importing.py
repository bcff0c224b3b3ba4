"""Features that somebody else made, in any framework -> a store: from `.npz`, safetensors or parquet.

.npz           ids (N,) of text, features (N, E), (N, K, E) or (N, K, S, E)
.safetensors   features, and the metadata entry `ids`, a JSON list of N texts
.parquet       columns id and features (a list, or lists in lists); takes pyarrow
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from epalm.data.store.builder import items_per_shard
from epalm.data.store.description import StoreDescription
from epalm.data.store.keys import KeyIndex, as_keys
from epalm.data.store.ready import key_of_id
from epalm.data.store.shards import DTYPES, ENDING, checksum_of, write_shard
from epalm.data.store.store import FeatureStore
from epalm.errors import DataError

_KINDS = (torch.float64, *DTYPES.values())


@dataclass(frozen=True)
class _Brought:
    """What a file holds; features are read piece by piece, where that is possible."""

    ids: Sequence[str]
    shape: tuple[int, ...]
    """Of all features, (N, ...)."""
    dtype: torch.dtype
    part: Callable[[int, int], Tensor]
    """From item to item -> features (n, ...)."""


def import_features(
    source: Path, folder: Path, *, made_by: str | None = None, dtype: str | None = None
) -> FeatureStore:
    """Put the features of a file into a store, which is made if it is not there; the store.

    Args:
        source: the file.
        folder: of the store; one that is there must hold features of the same shape, dtype and maker.
        made_by: the encoder, in words.
        dtype: what to store in, one of float32, float16 and bfloat16; unset: as in the file, float64 as float32.

    Raises:
        DataError: the file cannot be read, or holds no such features; or the store holds other features.
    """
    brought = _read(source)
    count, *item = brought.shape
    shape = (1, *item) if len(item) == 1 else tuple(item)
    own = {kind: name for name, kind in DTYPES.items()}.get(brought.dtype, "float32")
    facts = {"made_by": made_by} if made_by else {}
    description = StoreDescription.build(
        {"identity": "id", "shape": shape, "dtype": dtype or own, "facts": facts, "made_by": made_by}, str(source)
    )
    keys = as_keys(key_of_id(name) for name in brought.ids)
    if len(np.unique(keys, axis=0)) < count:
        twice = next(name for i, name in enumerate(brought.ids) if KeyIndex(keys).find(keys[i : i + 1])[0] != i)
        raise DataError(f"{source}: the id '{twice}' is there twice")
    store = FeatureStore(folder, description)
    step = items_per_shard(shape, description.dtype)
    names = []
    for first in range(0, count, step):
        last = min(first + step, count)
        features = _checked(source, brought, first, last, description.dtype).reshape(-1, *shape)
        names.append(_put(store, source, brought.ids, keys[first:last], features, first))
    store.add(names)
    return store


def _put(store: FeatureStore, source: Path, ids: Sequence[str], keys: np.ndarray, features: Tensor, first: int) -> Path:
    """Write one shard, unless it is there with the same features."""
    raw = features.contiguous().reshape(-1).view(torch.uint8).numpy()
    path = store.folder / f"{key_of_id(' '.join(ids[first : first + len(keys)])).hex()}{ENDING}"
    there = next((shard for shard in store.shards if shard.path == path), None)
    if there is not None and not there.is_whole():
        store.drop(there, f"{path}: damaged; its checksum is another")
    elif there is not None and there.checksum == checksum_of(raw.data, keys.tobytes()):
        return path
    known = np.flatnonzero(store.find(keys) >= 0)
    if len(known):
        name = ids[first + int(known[0])]
        raise DataError(f"{source}: the id '{name}' is in {store.folder} already; remove the store, or name another")
    return write_shard(path, keys, features).path


def _checked(source: Path, brought: _Brought, first: int, last: int, dtype: str) -> Tensor:
    given = brought.part(first, last)
    stored = given.to(DTYPES[dtype])
    finite = stored.flatten(1).isfinite().all(dim=1)
    if not finite.all():
        at = int(finite.int().argmin())
        why = f"do not fit {dtype}" if given[at].isfinite().all() else "are not all finite numbers"
        raise DataError(f"{source}: the features of '{brought.ids[first + at]}' {why}")
    return stored


def _read(source: Path) -> _Brought:
    readers = {".npz": _read_npz, ".safetensors": _read_safetensors, ".parquet": _read_parquet}
    if source.suffix not in readers:
        raise DataError(f"{source}: features are read from {', '.join(readers)}")
    if not source.is_file():
        raise DataError(f"{source}: no such file")
    try:
        brought = readers[source.suffix](source)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{source}: holds no features with their ids ({reason}); see docs/features.md") from None
    if brought.dtype not in _KINDS:
        raise DataError(f"{source}: features are of {brought.dtype}; they must be of float16, bfloat16 or float32")
    if not 2 <= len(brought.shape) <= 4 or 0 in brought.shape:
        raise DataError(
            f"{source}: features are of shape {brought.shape}; it must be (N, E), (N, K, E) or (N, K, S, E)"
        )
    if len(brought.ids) != brought.shape[0]:
        raise DataError(f"{source}: {len(brought.ids)} ids for {brought.shape[0]} features; there must be one for each")
    return brought


def _read_npz(source: Path) -> _Brought:
    with np.load(source, allow_pickle=False) as file:
        ids, features = [str(name) for name in file["ids"].tolist()], torch.from_numpy(file["features"])
    return _Brought(ids, tuple(features.shape), features.dtype, lambda first, last: features[first:last])


def _read_safetensors(source: Path) -> _Brought:
    file = safe_open(source, framework="pt")
    ids = json.loads((file.metadata() or {})["ids"])
    if not isinstance(ids, list):
        raise ValueError("the metadata entry ids is no list")
    told = file.get_slice("features")
    one = told[0:1]
    return _Brought(
        [str(name) for name in ids], tuple(told.get_shape()), one.dtype, lambda first, last: told[first:last]
    )


def _read_parquet(source: Path) -> _Brought:
    try:
        from pyarrow import parquet
    except ImportError:
        raise DataError(f'{source}: reading it takes the package pyarrow: pip install "epalm[parquet]"') from None
    table = parquet.read_table(source, columns=["id", "features"])
    ids = [str(name) for name in table["id"].to_pylist()]
    item = _dense(table["features"].slice(0, 1))

    def part(first: int, last: int) -> Tensor:
        try:
            features = _dense(table["features"].slice(first, last - first))
        except ValueError as error:
            raise DataError(f"{source}: {error} (rows {first} to {last - 1})") from None
        if features.shape[1:] != item.shape[1:]:
            raise DataError(f"{source}: the features of '{ids[first]}' are of another shape than those of '{ids[0]}'")
        return torch.from_numpy(features)

    return _Brought(ids, (len(ids), *item.shape[1:]), torch.from_numpy(item).dtype, part)


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
