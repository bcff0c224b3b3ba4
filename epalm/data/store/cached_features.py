"""Features of files in a store that an encoder fills: what was perceived once, by anyone, is read from then on.

An item is one view of one file, known by the content of the file; a random view also by the file's name, the seed, the
kind of augmentation and its number, which are what it is drawn from (see `epalm.data.views`), and whether the view of
evaluation may stand in for it where it meets damage.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from epalm.data.feature_cache import OnProgress, PerceiveViews, once_noticeable
from epalm.data.store.builder import build, items_per_shard
from epalm.data.store.description import StoreDescription
from epalm.data.store.file_hashes import FileHashes, place_of
from epalm.data.store.keys import as_keys, key_of
from epalm.data.store.store import FeatureStore
from epalm.data.views import FileView, Views
from epalm.encoders.token_features import BatchFeatures
from epalm.errors import MediaError
from epalm.runtime.processes import Processes


class KnownViews:
    """Views whose keys are known, in a store; a base for what finds out the keys."""

    def __init__(self, store: FeatureStore) -> None:
        self.store = store
        self._keys: dict[FileView, bytes] = {}
        self._checked: set[Path] = set()

    def lacks(self, views: Sequence[FileView]) -> list[FileView]:
        """Which views have not been found or built here."""
        return [view for view in views if view not in self._keys]

    def take(self, views: Sequence[FileView]) -> BatchFeatures:
        """Features of views that are not lacking."""
        entries = self.store.find(as_keys([self._keys[view] for view in views]))
        return self.store.read_tokens(entries) if self.store.description.of_every_token else self.store.read(entries)

    def _check(self, keys: np.ndarray, on_progress: OnProgress, processes: Processes) -> None:
        """Have shards that hold some of keys (Q, 2) count as absent where their bytes are not what was written.

        Each is looked at once, by one of the processes.
        """
        entries = self.store.find(keys)
        held = {self.store.shards[i] for i in set(self.store.shard_numbers(entries[entries >= 0]).tolist())}
        new = sorted((shard for shard in held if shard.path not in self._checked), key=lambda shard: shard.path)
        self._checked |= {shard.path for shard in new}
        report = once_noticeable(partial(on_progress, "verifying"))
        mine, damaged = new[processes.rank :: processes.count], list[Path]()
        for number, shard in enumerate(mine, 1):
            if not shard.is_whole():
                damaged.append(shard.path)
            report(number, len(mine))
        gone = {path for theirs in processes.share(damaged) for path in theirs}
        for shard in new:
            if shard.path in gone:
                self._checked.discard(shard.path)
                self.store.drop(shard, f"{shard.path}: damaged; its checksum is another")


class CachedFeatures(KnownViews):
    """Files in a store of their own encoder.

    Args:
        folder: of the store.
        description: of what the encoder gives.
        views: those that training has.
        batch_size: views that are perceived at once.
        skip_bad: see `epalm.data.file_features.PerceivedFiles`.
    """

    def __init__(
        self, folder: Path, description: StoreDescription, views: Views, batch_size: int, *, skip_bad: bool = False
    ) -> None:
        super().__init__(FeatureStore(folder, description))
        self._views, self._batch_size, self._skip_bad = views, batch_size, skip_bad
        self._modality = str(description.facts.get("modality"))

    def perceive(
        self, views: Sequence[FileView], perceive: PerceiveViews, on_progress: OnProgress, processes: Processes
    ) -> None:
        """Find these views, and build those that are not there."""
        if not any(processes.share(bool(self.lacks(views)))):
            return
        paths = list(dict.fromkeys(path for path, _ in views))
        before = {path: place_of(path) for path in paths}
        report = once_noticeable(partial(on_progress, "identifying"))
        contents = FileHashes(self.store.folder / "places").identify(before, processes, report)
        for path in paths:
            if path not in contents:  # it is what is perceived that says why it cannot be read
                list(perceive([[(path, None)]]))
        keys = {view: self._key(view, contents[view[0]]) for view in views if view[0] in contents}
        to_perceive: dict[bytes, FileView] = {}
        for view, key in keys.items():
            to_perceive.setdefault(key, view)  # files of one content are perceived once

        def unchanged(
            batches: Sequence[Sequence[FileView]],
        ) -> Generator[tuple[list[FileView], BatchFeatures], None, None]:
            for read, features in perceive(batches):
                for path in {path for path, _ in read}:
                    if place_of(path) != before[path]:
                        raise MediaError(f"{path}: was changed while it was read; run this again")
                yield read, features

        self.store.refresh(processes)
        self._check(as_keys(keys.values()), on_progress, processes)
        shape, dtype, facts = self.store.description.shape, self.store.description.dtype, self.store.description.facts
        build(
            self.store,
            [(view, key) for key, view in to_perceive.items()],
            unchanged,
            batch_size=self._batch_size,
            per_shard=items_per_shard(shape, dtype, facts.get("frames") or 1, len(to_perceive)),
            processes=processes,
            on_progress=partial(on_progress, "perceiving"),
        )
        there = self.store.find(as_keys(keys.values())) >= 0
        self._keys |= {view: key for (view, key), found in zip(keys.items(), there.tolist(), strict=True) if found}

    def _key(self, file_view: FileView, content: bytes) -> bytes:
        path, view = file_view
        name = path.name.encode("utf-8", "surrogateescape")
        if view is None and self._modality == "video" and self._views.evaluation_frames == "random":
            return key_of(content, name, f"{self._views.seed} evaluation".encode())
        if view is None:
            return content
        drawn = (
            f"{self._views.seed} {self._views.altered(self._modality)} {view}{' or whole' if self._skip_bad else ''}"
        )
        return key_of(content, name, drawn.encode())
