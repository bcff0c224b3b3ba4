"""A feature store on disk: a description, and shards that are only ever added; read from anywhere in them.

    store.json                        what made the features, and of what shape they are
    <32 hexadecimal digits>.safetensors   the shards; the name tells which items were to be in it
    places/                           which file was seen to hold which content (see `epalm.data.store.file_hashes`)

Items are read by their position in a file, not through a map of it: mapping pages, and letting go of them so that a
large store does not fill the memory, took longer than reading.

An entry is the position of an item in the store as it is open here; positions stay what they are as shards are added.

Shapes: Q items asked for; the trailing shape is any, such as (K, E), or (K, N, E) for every token. Items may differ in
their N, and such a store is ragged.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from io import FileIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from epalm.data.store.description import StoreDescription, read_description
from epalm.data.store.keys import KeyIndex
from epalm.data.store.shards import DTYPES, ENDING, DamagedShardError, Shard, raw_dtype, read_shard
from epalm.encoders import TokenFeatures
from epalm.errors import DataError
from epalm.runtime.processes import ALONE, Processes

_MOST_OPEN = 512
"""Shards that are open at once; each takes a file handle, of which a process commonly has 1,024."""


class FeatureStore:
    """A store that is open.

    Args:
        folder: of the store.
        description: what must be in it; the store is made if it is not there. Unset: what is in it.

    Raises:
        DataError: there is no store, it is damaged, or it holds something else than `description` says.
    """

    def __init__(self, folder: Path, description: StoreDescription | None = None) -> None:
        self.folder = folder
        if description is not None:
            description.write(folder)
        self.description = read_description(folder)
        if description is not None and description.key != self.description.key:
            raise DataError(
                f"{folder}: holds other features than those asked for ({self.description.difference(description)}); "
                "name another directory for them"
            )
        self.damaged: dict[Path, str] = {}
        """Files that are no whole shards, and why; as if they were not there."""
        self._shards: list[Shard] = []
        self._known: set[Path] = set()
        self._open: OrderedDict[int, FileIO] = OrderedDict()
        self._index: KeyIndex | None = None
        self._reindex()
        self.refresh()

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The shards, in the order of their entries."""
        return tuple(self._shards)

    @property
    def most_tokens(self) -> int | None:
        """The most tokens that an item has, of a store of every token that is not empty."""
        if not self.description.is_ragged:
            return self.description.shape[1] if self.description.of_every_token else None
        lengths = [shard.lengths for shard in self._shards if shard.lengths is not None]
        return int(max(map(np.max, lengths))) if lengths else None

    def refresh(self, processes: Processes = ALONE) -> None:
        """Take in shards that have been written meanwhile, by whomever.

        Args:
            processes: those that are to have the same shards; each of them calls this.
        """
        here = [path.name for path in self.folder.glob(f"*{ENDING}")]
        self.add(self.folder / name for name in sorted({name for theirs in processes.share(here) for name in theirs}))

    def add(self, paths: Iterable[Path]) -> None:
        """Take in these shards, as far as they are whole and new."""
        for path in paths:
            if path in self._known:
                continue
            try:
                shard = read_shard(path)
                if (shard.dtype, shard.shape) != (self.description.dtype, self.description.shape):
                    raise DamagedShardError(f"{path}: holds {shard.dtype} {shard.shape}")
            except DamagedShardError as error:
                self.damaged[path] = str(error)
                continue
            self.damaged.pop(path, None)
            self._known.add(path)
            self._shards.append(shard)
        self._reindex()

    def drop(self, shard: Shard, reason: str) -> None:
        """Have a shard count as damaged. Entries are positions no longer: look all of them up anew."""
        self._known.discard(shard.path)
        self._shards = [each for each in self._shards if each is not shard]
        self.close()
        self.damaged[shard.path] = reason
        self._reindex()

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Entries (Q,) of int64 of keys (Q, 2); -1 where there is none."""
        if self._index is None:
            every = [shard.keys for shard in self._shards]
            self._index = KeyIndex(np.concatenate(every) if every else np.empty((0, 2), dtype="<u8"))
        return self._index.find(keys)

    def shard_numbers(self, entries: np.ndarray) -> np.ndarray:
        """In which shard each of entries (Q,) is."""
        return np.searchsorted(self._starts, entries, side="right") - 1

    def read(self, entries: np.ndarray) -> Tensor:
        """Features (Q, ...) of entries (Q,), in the store's dtype, in memory of their own; not of a ragged store.

        Raises:
            DataError: a shard has become shorter or cannot be read any more.
        """
        return self._read(entries, [1] * len(entries)).unflatten(1, self.description.shape)

    def read_tokens(self, entries: np.ndarray) -> TokenFeatures:
        """Every token of entries (Q,) of a store of such, in the store's dtype, padded to the longest of them.

        Raises:
            DataError: as in `read`.
        """
        if not self.description.is_ragged:
            return TokenFeatures.of(self.read(entries))
        levels, _, width = self.description.shape
        numbers = self.shard_numbers(entries)
        counts = [self._shards[number].length(row) for number, row in zip(numbers, self._rows(entries), strict=True)]
        tokens = self._read(entries, counts).view(-1, levels, width)  # (all tokens, K, E)
        return TokenFeatures.padded([item.movedim(0, 1) for item in tokens.split(counts)])

    def close(self) -> None:
        """Close all files; the next read opens them again."""
        while self._open:
            self._open.popitem()[1].close()

    def _rows(self, entries: np.ndarray) -> list[int]:
        """Where in its shard each of entries (Q,) is."""
        rows: list[int] = (entries - self._starts[self.shard_numbers(entries)]).tolist()
        return rows

    def _read(self, entries: np.ndarray, counts: Sequence[int]) -> Tensor:
        """What entries (Q,) hold, one after the other: the rows (of numbers) that each has, by `counts`."""
        dtype = self.description.dtype
        raw = np.empty((sum(counts), abs(math.prod(self.description.shape))), raw_dtype(dtype))
        if raw.size:
            into, size, first = raw.data.cast("B"), raw.itemsize * raw.shape[1], 0
            numbers = self.shard_numbers(entries).tolist()
            for number, row, count in zip(numbers, self._rows(entries), counts, strict=True):
                last = first + count * size
                try:
                    self._shards[number].read(self._file(number), row, into[first:last])
                except (OSError, DamagedShardError) as error:
                    raise DataError(f"{error}; read the features again, or build them anew") from None
                first = last
        return torch.from_numpy(raw).view(DTYPES[dtype])

    def _file(self, number: int) -> FileIO:
        """The file of a shard."""
        found = self._open.get(number)
        if found is None:
            found = self._open[number] = self._shards[number].open()
            if len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)[1].close()
        else:
            self._open.move_to_end(number)
        return found

    def _reindex(self) -> None:
        self._starts = np.cumsum([0, *map(len, self._shards)])
        self._index = None
