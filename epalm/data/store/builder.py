"""Building: items in a fixed order, cut into shards, of which every process has its own.

Shard number i is the work of process i modulo their number. What is in it follows from the items and from what was
stored before them: neither how many processes there are nor where an earlier build was stopped changes a byte of it.
How large items are that differ in their number of tokens is known only when they have been perceived: where they are
more than a shard should hold, it becomes several.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from epalm.data.store.description import StoreDescription
from epalm.data.store.keys import as_keys
from epalm.data.store.shards import DTYPES, ENDING, write_shard
from epalm.data.store.store import FeatureStore
from epalm.encoders.token_features import BatchFeatures, split_batch
from epalm.errors import DataError, EpalmError
from epalm.runtime.processes import Processes

ItemT = TypeVar("ItemT")
_Perceived = tuple[list[ItemT], BatchFeatures]
Perceive = Callable[[Sequence[Sequence[ItemT]]], Generator[tuple[list[ItemT], BatchFeatures], None, None]]
"""Batches of items -> of each batch those that could be perceived, and their features."""
_SHARD_BYTES = 64 << 20
_SHARD_ITEMS = 2048
_SHARDS = 16
"""How many there are of little work, so that every process has some to do, and a stop costs little."""
_FEW_ITEMS = 32
"""Of which small shards are multiples, so that the encoder's batches stay full."""
_STALE = 3600
"""Seconds after which an unfinished file is nobody's any more."""


def items_per_shard(shape: Sequence[int], dtype: str, cost: int = 1, count: int | None = None) -> int:
    """How many items a shard holds: no more than 64 MiB of them, and few enough that losing them costs little.

    Args:
        shape: of one item's features; where items differ in their number of tokens, bytes are not looked at.
        dtype: what they are stored in.
        cost: of perceiving one item, in pictures, such as the frames of a clip.
        count: items that there are to perceive; unset: too many to matter.
    """
    size = math.prod(shape) * DTYPES[dtype].itemsize
    most = max(1, min(_SHARD_ITEMS // cost, _SHARD_BYTES // size if size > 0 else _SHARD_ITEMS))
    if count is None:
        return most
    return min(most, max(1, count // (_SHARDS * _FEW_ITEMS)) * _FEW_ITEMS)


@dataclass(frozen=True)
class _Planned(Generic[ItemT]):
    """A shard that is to be written."""

    items: list[ItemT]
    keys: list[bytes]


@dataclass(frozen=True)
class _Filled:
    """A shard that can be written."""

    name: str
    keys: list[bytes]
    features: list[Tensor]
    """Of each item, (K, E), or (K, N, E)."""


@dataclass
class _News:
    """What one process tells the others after every round."""

    done: int = 0
    written: list[str] = field(default_factory=list)
    error: EpalmError | None = None


class _Writer:
    """Writes one shard while the next is perceived."""

    def __init__(self, store: FeatureStore) -> None:
        self._store, self._pool = store, ThreadPoolExecutor(1)
        self._under_way: tuple[str, Future[Any]] | None = None

    def write(self, shard: _Filled) -> list[str]:
        """Begin to write a shard; the names of those that are written."""
        stored, lengths = _stored(self._store, shard.features)
        done = self.finish()
        path = self._store.folder / shard.name
        self._under_way = shard.name, self._pool.submit(write_shard, path, as_keys(shard.keys), stored, lengths)
        return done

    def finish(self) -> list[str]:
        """Wait for what is being written; its name."""
        if self._under_way is None:
            return []
        (name, writing), self._under_way = self._under_way, None
        writing.result()
        return [name]

    def close(self) -> None:
        self._pool.shutdown()


def build(
    store: FeatureStore,
    wanted: Sequence[tuple[ItemT, bytes]],
    perceive: Perceive[ItemT],
    *,
    batch_size: int,
    per_shard: int,
    processes: Processes,
    on_progress: Callable[[int, int], None],
) -> None:
    """Add to `store` what is not in it yet.

    Args:
        store: open; afterwards it holds the shards of all processes, and those that another launch wrote meanwhile,
            which one process may have known from the start and another not.
        wanted: items and their keys, distinct, in an order that is the same in every process.
        perceive: makes features; items that it leaves out stay out of the store.
        batch_size: items perceived at once.
        per_shard: items of a shard.
        processes: those that share the work; each of them must call this.
        on_progress: called with how many items are done, and how many were to be done.

    Raises:
        DataError: a shard cannot be written, or what another process wrote cannot be read here.
        EpalmError: what `perceive` raised, in every process.
    """
    plan = _plan(store, wanted, per_shard)
    total = sum(len(planned.items) for planned in plan)
    if not any(processes.share(total)):
        return
    _sweep(store.folder)
    mine = plan[processes.rank :: processes.count]
    cuts = [_cut(planned.items, batch_size) for planned in mine]
    stream = perceive([batch for cut in cuts for batch in cut])
    writer = _Writer(store)
    done, written = 0, []

    def perceived(batches: Sequence[Sequence[ItemT]], news: _News, before: int) -> Iterator[_Perceived[ItemT]]:
        for batch in batches:
            given = next(stream)
            news.done += len(batch)
            on_progress(before + news.done, total)
            yield given

    try:
        for number in range(-(-len(plan) // processes.count) + 1):  # and one for what is still being written
            news = _News()
            try:
                if number < len(mine):
                    for shard in _filled(store.description, mine[number], perceived(cuts[number], news, done)):
                        news.written += writer.write(shard)
                else:
                    news.written += writer.finish()
            except EpalmError as error:
                news.error = error
            every = processes.share(news)
            for each in every:
                if each.error is not None:
                    raise each.error
                written += each.written
            here = sum(each.done for each in every)
            done += here
            if here > news.done:
                on_progress(done, total)
    finally:
        stream.close()
        writer.close()
    store.add(store.folder / name for name in written)
    store.add(path for path in sorted(store.folder.glob(f"*{ENDING}")) if path not in store.damaged)
    unseen = [name for name in written if store.folder / name in store.damaged]
    if unseen:
        raise DataError(f"{store.damaged[store.folder / unseen[0]]}; all processes must see the same directory")


def _plan(store: FeatureStore, wanted: Sequence[tuple[ItemT, bytes]], per_shard: int) -> list[_Planned[ItemT]]:
    """Shards as all of `wanted` would fill them, each without what is stored already; some have nothing left."""
    there = store.find(as_keys(key for _, key in wanted)) >= 0
    plan = []
    for first in range(0, len(wanted), per_shard):
        last = first + per_shard
        lacking = [pair for pair, is_there in zip(wanted[first:last], there[first:last], strict=True) if not is_there]
        plan.append(_Planned([item for item, _ in lacking], [key for _, key in lacking]))
    return plan


def _cut(items: list[ItemT], size: int) -> list[list[ItemT]]:
    return [items[first : first + size] for first in range(0, len(items), size)]


def _filled(
    description: StoreDescription, planned: _Planned[ItemT], perceived: Iterable[_Perceived[ItemT]]
) -> Iterator[_Filled]:
    """What was perceived of a planned shard: one, of none of its items none, or of ragged ones several."""
    key_of, itemsize = dict(zip(planned.items, planned.keys, strict=True)), DTYPES[description.dtype].itemsize
    keys: list[bytes] = []
    features: list[Tensor] = []
    size = 0
    for items, given in perceived:
        for item, its_features in zip(items, split_batch(given), strict=True):
            keys.append(key_of[item])
            features.append(its_features)
            size += its_features.numel() * itemsize
            if description.is_ragged and size >= _SHARD_BYTES:
                yield _Filled(_name(keys), keys, features)
                keys, features, size = [], [], 0
    if keys:
        yield _Filled(_name(keys if description.is_ragged else planned.keys), keys, features)


def _name(keys: Sequence[bytes]) -> str:
    return hashlib.sha256(b"".join(keys)).hexdigest()[:32] + ENDING


def _stored(store: FeatureStore, features: Sequence[Tensor]) -> tuple[Tensor, np.ndarray | None]:
    """Features of items as `write_shard` takes them, with their lengths where they differ in their tokens."""
    description = store.description
    lengths = np.array([each.shape[1] for each in features], "<i8") if description.is_ragged else None
    given = torch.stack(list(features)) if lengths is None else torch.cat([each.movedim(1, 0) for each in features])
    stored = given.to(DTYPES[description.dtype])
    if not stored.isfinite().all():
        raise DataError(
            f"{store.folder}: features of up to {float(given.abs().max()):.3g} do not fit {description.dtype}; "
            "choose bfloat16 or float32 (data.store_dtype)"
        )
    return stored, lengths


def _sweep(folder: Path) -> None:
    """Take away what builders that were killed left half written."""
    for part in folder.glob(".*.part"):
        try:
            if time.time() - part.stat().st_mtime > _STALE:
                part.unlink()
        except OSError:  # somebody else was faster
            continue
