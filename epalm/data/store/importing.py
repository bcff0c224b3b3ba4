"""Features that somebody else made -> a store: all that a file holds, or nothing.

Everything is looked at before anything is written, and what was written is taken away again if the rest cannot be. See
`epalm.data.store.feature_files` for the files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from epalm.data.store.builder import items_per_shard
from epalm.data.store.description import DESCRIPTION, StoreDescription
from epalm.data.store.feature_files import FeatureFile, read_feature_file
from epalm.data.store.imported_features import key_of_id
from epalm.data.store.keys import KeyIndex, as_keys
from epalm.data.store.shards import DTYPES, ENDING, UnwritableError, checksum_of, write_shard
from epalm.data.store.store import FeatureStore
from epalm.errors import DataError


def import_features(
    source: Path, folder: Path, *, made_by: str | None = None, dtype: str | None = None
) -> FeatureStore:
    """Put the features of a file into a store, which is made if it is not there; the store.

    Args:
        source: the file.
        folder: of the store: one that holds features of the same shape, dtype and maker, or a new or empty directory.
        made_by: the encoder, in words.
        dtype: what to store in, one of float32, float16 and bfloat16; unset: as in the file, float64 as float32.

    Raises:
        DataError: the file cannot be read, or holds no such features; or the store holds other features, or cannot be
            written. The store is then as it was.
    """
    contents = read_feature_file(source)
    count, *item = contents.shape
    shape = (1, *item) if len(item) == 1 else tuple(item)
    own = contents.kind if contents.kind in DTYPES else "float32"
    facts = {"made_by": made_by} if made_by else {}
    description = StoreDescription.build(
        {"identity": "id", "shape": shape, "dtype": dtype or own, "facts": facts, "made_by": made_by}, str(source)
    )
    keys = as_keys(key_of_id(name) for name in contents.ids)
    twice = np.flatnonzero(KeyIndex(keys).find(keys) != np.arange(count))
    if len(twice):
        raise DataError(f"{source}: the id '{contents.ids[int(twice[0])]}' occurs twice")
    store = FeatureStore(folder, description) if _is_store(folder) else None
    step = items_per_shard(shape, description.dtype)

    def features(part: slice) -> Tensor:
        return _checked(source, contents, part, description.dtype).reshape(-1, *shape)

    missing: dict[Path, slice] = {}
    for first in range(0, count, step):
        part = slice(first, min(first + step, count))
        path, given = folder / _name(contents.ids[part]), features(part)
        if store is None or not _is_there(store, path, source, contents.ids[part], keys[part], given):
            missing[path] = part
    with _all_or_nothing(folder, [*missing, *([] if store else [folder / DESCRIPTION])]):
        store = store or FeatureStore(folder, description)
        store.add([write_shard(path, keys[part], features(part)).path for path, part in missing.items()])
    return store


def _is_store(folder: Path) -> bool:
    """Whether there is a store; else one can be made here.

    Raises:
        DataError: something else is there.
    """
    if os.path.exists(folder) and not os.path.isdir(folder):  # noqa: PTH110, PTH112  Path's raise where it is too long
        raise DataError(f"{folder}: is a file; name a directory (--output)")
    try:
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []  # noqa: PTH112, PTH208
    except OSError as error:
        raise _unwritable(folder, error.strerror) from None
    others = [name for name in names if not (name.startswith(".") and name.endswith(".part"))]
    if others and DESCRIPTION not in others:
        raise DataError(
            f"{folder}: holds other files, such as '{others[0]}', and no feature store; name a new or empty directory "
            "(--output)"
        )
    return bool(others)


@contextmanager
def _all_or_nothing(folder: Path, files: Sequence[Path]) -> Iterator[None]:
    """Have `files` of the store in `folder` go again, and it as well if it was made, where not all can be written."""
    had_folder = os.path.isdir(folder)  # noqa: PTH112
    try:
        yield
    except BaseException as error:
        with suppress(OSError):
            for path in files:
                path.unlink(missing_ok=True)
            if not had_folder:
                folder.rmdir()
        if isinstance(error, UnwritableError):
            raise _unwritable(error.folder, error.reason) from None
        raise


def _is_there(
    store: FeatureStore, path: Path, source: Path, ids: Sequence[str], keys: np.ndarray, features: Tensor
) -> bool:
    """Whether a shard of the same features is there, and whole.

    Raises:
        DataError: one of the items is in the store with other features.
    """
    raw = features.contiguous().reshape(-1).view(torch.uint8).numpy()
    there = next((shard for shard in store.shards if shard.path == path), None)
    if there is not None and not there.is_whole():
        store.drop(there, f"{path}: damaged; its checksum is another")
    elif there is not None and there.checksum == checksum_of(raw.data, keys.tobytes()):
        return True
    present = np.flatnonzero(store.find(keys) >= 0)
    if len(present):
        name = ids[int(present[0])]
        raise DataError(f"{source}: the id '{name}' is in {store.folder} already; remove the store, or name another")
    return False


def _checked(source: Path, contents: FeatureFile, part: slice, dtype: str) -> Tensor:
    """Features (n, ...) of a part of the items, as they are stored."""
    given = contents.part(part.start, part.stop)
    stored = given.to(DTYPES[dtype])
    finite = stored.flatten(1).isfinite().all(dim=1)
    if not finite.all():
        at = int(finite.int().argmin())
        remedy = "choose bfloat16 or float32 (--dtype)" if dtype == "float16" else "scale them down"
        fits_not = f"do not fit {dtype}; {remedy}"
        why = fits_not if given[at].isfinite().all() else "are not all finite numbers; mend them, or leave it out"
        raise DataError(f"{source}: the features of '{contents.ids[part.start + at]}' {why}")
    return stored


def _name(ids: Sequence[str]) -> str:
    return f"{key_of_id(' '.join(ids)).hex()}{ENDING}"


def _unwritable(folder: Path, reason: str | None) -> DataError:
    return DataError(f"{folder}: features cannot be stored: {reason}; name another directory (--output)")
