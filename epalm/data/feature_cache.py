"""Where features of views are kept once they have been perceived: here in main memory, elsewhere on disk.

Shapes: B views, K levels, N tokens, E width. Of views together there is a tensor (B, K, E), or `TokenFeatures`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from torch import Tensor

from epalm.data.views import FileView
from epalm.encoders.token_features import BatchFeatures, make_batch, split_batch
from epalm.runtime.processes import Processes

PerceiveViews = Callable[[Sequence[Sequence[FileView]]], Iterator[tuple[list[FileView], BatchFeatures]]]
"""Batches of views -> of each batch those that could be perceived, and their features in main memory."""
OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, such as `perceiving`, how much of it is done, and how much there is."""
_NOTICEABLE = 1.0
"""Seconds."""


def once_noticeable(on_progress: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """`on_progress`, called with how much is done and how much there is, but not in the first second from now on.

    What commonly is done in less is told of only where it takes longer.
    """
    begun = time.monotonic()

    def report(done: int, total: int) -> None:
        if time.monotonic() - begun >= _NOTICEABLE:
            on_progress(done, total)

    return report


class FeatureCache(Protocol):
    """Features that are kept."""

    def lacks(self, views: Sequence[FileView]) -> list[FileView]:
        """Which of these views are not kept."""

    def perceive(
        self, views: Sequence[FileView], perceive: PerceiveViews, on_progress: OnProgress, processes: Processes
    ) -> None:
        """Keep the features of distinct views, as far as they can be perceived.

        Args:
            views: distinct; the same in all processes.
            perceive: perceives those that are not kept.
            on_progress: told of every batch.
            processes: those that may share the work; each of them calls this.
        """

    def take(self, views: Sequence[FileView]) -> BatchFeatures:
        """Features of views that are kept."""


class InMemory:
    """Every process keeps what it needs.

    Args:
        batch_size: views perceived at once.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._features: dict[FileView, Tensor] = {}

    def lacks(self, views: Sequence[FileView]) -> list[FileView]:
        """See `FeatureCache`."""
        return [view for view in views if view not in self._features]

    def perceive(
        self, views: Sequence[FileView], perceive: PerceiveViews, on_progress: OnProgress, processes: Processes
    ) -> None:
        """See `FeatureCache`."""
        lacking = self.lacks(views)
        batches = [lacking[first : first + self._batch_size] for first in range(0, len(lacking), self._batch_size)]
        done = 0
        for batch, (read, features) in zip(batches, perceive(batches), strict=True):
            self._features.update(zip(read, split_batch(features), strict=True))
            done += len(batch)
            on_progress("perceiving", done, len(lacking))

    def take(self, views: Sequence[FileView]) -> BatchFeatures:
        """See `FeatureCache`."""
        return make_batch([self._features[view] for view in views])
