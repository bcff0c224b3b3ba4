"""Views of files -> features, batch by batch; the next batches are prepared while the encoder is at work.

Files are decoded by several threads, and what they hold becomes the encoder's inputs in others. On the CPU that is one,
for more would take time from the encoder; beside a GPU, which would wait for a single one, every batch that is under
way has its own. However many threads there are, no more than `_AHEAD` + 1 batches are under way.

A CPU is given a batch in pieces, each a batch of its own on the way: what passes between layers then stays in its
caches. Of Whisper's windows, 1,500 tokens each, 32 at once took 30 % longer than one by one.

Shapes: B views, K levels, E width.
"""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor

from epalm.data.views import FileView
from epalm.encoders import PerceptualEncoder, TokenFeatures
from epalm.encoders.token_features import BatchFeatures, join_batches
from epalm.errors import MediaError
from epalm.runtime.locks import lock_of

_AHEAD = 2
"""Batches that are prepared before they are wanted."""
_THREADS = min(8, os.cpu_count() or 1)
_TOKENS_AT_ONCE = 2560
"""About as many does a CPU perceive at once: several pictures, or one window of Whisper's."""

Decode = Callable[[FileView], Any]
"""A view as the encoder takes it, or None where it is left out."""


def perceive_batches(
    encoder: PerceptualEncoder,
    levels: int,
    batches: Sequence[Sequence[FileView]],
    decode: Decode,
    *,
    every_token: bool = False,
    preparers: int | None = None,
) -> Iterator[tuple[list[FileView], BatchFeatures]]:
    """Of each batch the views that were not left out, and their features (B, K, E) in main memory.

    Args:
        encoder: perceives.
        levels: K.
        batches: distinct views, at least one each; what shares a batch is perceived at once, or on the CPU in pieces.
        decode: called in other threads.
        every_token: features are `TokenFeatures`.
        preparers: batches that are preprocessed at the same time, of the few under way; unset: 1 where the encoder is
            on the CPU, else all of them. Neither features nor their order depend on it.

    Raises:
        MediaError: what `decode` raises; or features are not finite numbers.
    """
    cut = [_pieces(encoder, batch) for batch in batches]
    every_piece = [piece for pieces in cut for piece in pieces]
    # Pieces may be shorter than there are threads to decode them.
    most = max(map(len, cut), default=1)
    ahead = max(_AHEAD, min(most * _AHEAD, -(-_THREADS // max(map(len, every_piece), default=1))))
    with closing(_perceived(encoder, levels, every_piece, decode, every_token, preparers, ahead)) as perceived:
        for pieces in cut:
            parts = [next(perceived) for _ in pieces]
            # One of which nothing could be read has the features of nobody, and their dtype.
            features = [features for read, features in parts if read] or [features for _, features in parts[:1]]
            yield [view for read, _ in parts for view in read], join_batches(features)


def _pieces(encoder: PerceptualEncoder, batch: Sequence[FileView]) -> list[Sequence[FileView]]:
    """A batch as the encoder is given it: whole, or on the CPU in pieces."""
    size = len(batch)
    if encoder.device.type == "cpu":
        size = min(size, max(1, _TOKENS_AT_ONCE // encoder.tokens_of_one))
    return [batch[first : first + size] for first in range(0, len(batch), size)]


def _perceived(
    encoder: PerceptualEncoder,
    levels: int,
    batches: Sequence[Sequence[FileView]],
    decode: Decode,
    every_token: bool,
    preparers: int | None,
    ahead: int,
) -> Generator[tuple[list[FileView], BatchFeatures], None, None]:
    """As `perceive_batches`, each batch at once."""
    count = _preparers(encoder, len(batches), preparers)
    free: SimpleQueue[PerceptualEncoder] = SimpleQueue()
    for own in [encoder, *(encoder.with_own_processor() for _ in range(count - 1))]:
        free.put(own)

    def preprocess(media: Sequence[Any]) -> dict[str, Tensor]:
        own = free.get()  # processors are not made for several threads, and others may use the same encoder
        try:
            with lock_of(own):
                return own.preprocess(media)
        finally:
            free.put(own)

    def prepared(batch: Sequence[FileView], media: Iterable[Any]) -> tuple[list[FileView], Any]:
        read = [(view, medium) for view, medium in zip(batch, media, strict=True) if medium is not None]
        return [view for view, _ in read], preprocess([medium for _, medium in read]) if read else None

    perceive = encoder.every_token if every_token else encoder.features
    nothing = torch.empty(0, levels, encoder.width)
    for read, inputs in _ahead(batches, decode, prepared, count, ahead):
        if not read:
            yield [], TokenFeatures.of(nothing.unsqueeze(2)) if every_token else nothing
            continue
        features: BatchFeatures = perceive(inputs, levels).cpu()
        _require_finite(encoder, features, read)
        yield read, features


def _preparers(encoder: PerceptualEncoder, batches: int, count: int | None = None) -> int:
    """How many batches are preprocessed at the same time: as asked for, but no more than are under way."""
    count = count or (1 if encoder.device.type == "cpu" else _AHEAD + 1)
    return max(1, min(count, _AHEAD + 1, batches))


def _ahead(
    batches: Sequence[Sequence[FileView]],
    decode: Decode,
    prepare: Callable[[Sequence[FileView], Iterable[Any]], tuple[list[FileView], Any]],
    preparers: int,
    ahead: int,
) -> Iterator[tuple[list[FileView], Any]]:
    """What `prepare`, called in as many threads, makes of each batch and its decoded media; in the batches' order."""
    if sum(map(len, batches)) < 2:  # threads would gain nothing
        for batch in batches:
            yield prepare(batch, map(decode, batch))
        return
    # Threads that decode turn warnings off and on again at the same time, and could leave them off.
    with warnings.catch_warnings(), ThreadPoolExecutor(_THREADS) as decoders, ThreadPoolExecutor(preparers) as pool:
        waiting: deque[Future[tuple[list[FileView], Any]]] = deque()
        try:
            for batch in batches:
                media = decoders.map(decode, batch)
                waiting.append(pool.submit(prepare, batch, media))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            decoders.shutdown(cancel_futures=True)
            pool.shutdown(cancel_futures=True)


def _require_finite(encoder: PerceptualEncoder, features: BatchFeatures, views: Sequence[FileView]) -> None:
    """See that features are finite: else training would fail later, and not say by which file."""
    values = features.values if isinstance(features, TokenFeatures) else features
    finite = values.isfinite().flatten(1).all(dim=1)  # (B,)
    if not finite.all():
        path = views[int(finite.int().argmin())][0]
        raise MediaError(
            f"{path}: {encoder.name} gives features that are not finite numbers; try model.torch_dtype float32"
        )
