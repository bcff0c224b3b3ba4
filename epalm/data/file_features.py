"""Perceptual features of the files that a set of rows names: perceived once and kept, or anew at every visit.

Encoders are frozen, so keeping what they gave changes no number. Of the files themselves nothing is kept. Shapes: B
batch, K levels, N tokens, E width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from epalm.data.feature_cache import FeatureCache, InMemory, OnProgress
from epalm.data.perceiving import perceive_batches
from epalm.data.views import FileView, View, Views
from epalm.encoders import PerceptualEncoder
from epalm.encoders.token_features import BatchFeatures, deepest_levels, make_batch, split_batch
from epalm.errors import MediaError
from epalm.runtime.processes import ALONE, Processes, all_processes

__all__ = ["Media", "OnProgress", "PerceivedFiles", "PerceivingModel"]

Media = Mapping[str, Path]
"""Modality -> file of one row."""


class PerceivingModel(Protocol):
    """Whatever has encoders, and says how many levels of each it takes, and whether it reads every token of them."""

    @property
    def encoders(self) -> Any:
        """Modality -> `PerceptualEncoder`."""

    @property
    def levels(self) -> Mapping[str, int]:
        """Modality -> K."""

    @property
    def reads_tokens(self) -> bool:
        """Whether it is given every token, and not (B, K, E)."""


class PerceivedFiles:
    """Gives the features of rows, modality by modality.

    Args:
        encoders: modality -> encoder; modalities that a row names beyond these and `kept` are not perceived.
        levels: K, by modality.
        batch_size: views an encoder perceives at once.
        keep: keep the features of every view in main memory, as precise as the encoder gives them, where `kept` names
            no better place.
        views: the views that training has of files; unset: the one of evaluation alone.
        skip_bad: note which files of training cannot be read when they are perceived, and go on without. Evaluation
            never does.
        kept: modality -> where its features are kept, such as a store on disk. Without an encoder those that are there
            already are all there are.
        every_token: features are `TokenFeatures`, (B, K, N, E), in place of (B, K, E). What is `kept` is as it is kept.

    Raises:
        ValueError: views without end are to be kept.
    """

    def __init__(
        self,
        encoders: Mapping[str, PerceptualEncoder],
        levels: Mapping[str, int],
        *,
        batch_size: int = 32,
        keep: bool = True,
        views: Views | None = None,
        skip_bad: bool = False,
        kept: Mapping[str, FeatureCache] | None = None,
        every_token: bool = False,
    ) -> None:
        self.encoders, self.levels, self.batch_size = dict(encoders), dict(levels), batch_size
        self.views, self.skip_bad, self.every_token = views or Views(), skip_bad, every_token
        if keep and self.views.number is None:
            raise ValueError("views without end cannot be kept")
        self.bad: dict[tuple[str, Path], MediaError] = {}
        """Of each modality the files that cannot be read, and why; filled by `perceive`, with `skip_bad`."""
        self.kept: dict[str, FeatureCache] = {modality: InMemory(batch_size) for modality in encoders} if keep else {}
        """Modality -> where its features are."""
        self.kept |= kept or {}
        self.modalities = tuple(dict.fromkeys([*self.encoders, *self.kept]))
        """Those that are perceived, or whose features are kept."""
        self._checked: dict[str, set[Path]] = {modality: set() for modality in encoders}

    @classmethod
    def of_model(cls, model: PerceivingModel, **options: Any) -> PerceivedFiles:
        """What `model`'s encoders give of what it reads, at the levels it taps; `options` are those of the class."""
        return cls(dict(model.encoders.items()), model.levels, every_token=model.reads_tokens, **options)

    @property
    def is_shared(self) -> bool:
        """Whether several processes perceive for each other, rather than each for itself."""
        return any(not isinstance(kept, InMemory) for kept in self.kept.values())

    def perceive(
        self,
        rows: Sequence[Media],
        on_progress: OnProgress | None = None,
        *,
        training: bool = False,
        held_out: bool = False,
        alone: bool = False,
    ) -> None:
        """Perceive every distinct file of `rows` that is not kept yet, once a view.

        Where nothing is kept, nothing is done; but files that may be skipped are read, to learn which must be. Where
        several processes were launched, all of them must call this with the same rows, unless it is done `alone`.

        Args:
            rows: whose files.
            on_progress: told of every batch.
            training: perceive the views that training has, not the one of evaluation.
            held_out: these are files of training that are set aside: the view of evaluation, and files may be skipped.
            alone: this process's rows are its own; nobody else perceives for it.

        Raises:
            MediaError: a file cannot be read, and must not be skipped.
        """
        processes = ALONE if alone else all_processes()
        self._perceive(rows, on_progress, training, processes, skip=self.skip_bad and (training or held_out))

    def of(self, rows: Sequence[Media], *, step: int | None = None) -> dict[str, BatchFeatures]:
        """Features of every modality that all of the rows bring and that is perceived: (B, K, E), or every token.

        Args:
            rows: modality -> file.
            step: number of the training step whose views are wanted; unset: the view of evaluation.

        Raises:
            MediaError: a file cannot be read.
        """
        features: dict[str, BatchFeatures] = {}
        for modality in self.modalities:
            if all(modality in row for row in rows):
                paths = [row[modality] for row in rows]
                if step is None or modality not in self.encoders:
                    file_views: list[FileView] = [(path, None) for path in paths]
                else:
                    file_views = [(path, self.views.drawn(modality, path, step)) for path in paths]
                features[modality] = self._features(modality, file_views, rows, training=step is not None)
        return features

    def _features(
        self, modality: str, file_views: list[FileView], rows: Sequence[Media], *, training: bool
    ) -> BatchFeatures:
        """Features of views, perceived now if they were not before."""
        kept = self.kept.get(modality)
        if kept is not None and kept.lacks(file_views):
            self._perceive(rows, None, training, ALONE, skip=self.skip_bad and training)
        for path, _ in file_views if self.bad else ():
            if (modality, path) in self.bad:
                raise self.bad[modality, path]
        if kept is not None:
            return deepest_levels(kept.take(file_views), self.levels[modality])
        distinct = list(dict.fromkeys(file_views))
        read: dict[FileView, Tensor] = {}
        for batch, features in self._batches(modality, self._cut(distinct), skip=False):
            read.update(zip(batch, split_batch(features), strict=True))
        return make_batch([read[view] for view in file_views])

    def _perceive(
        self,
        rows: Sequence[Media],
        on_progress: OnProgress | None,
        training: bool,
        processes: Processes,
        *,
        skip: bool,
    ) -> None:
        for modality in self.modalities:
            kept = self.kept.get(modality)
            if kept is None and not skip:
                continue
            many = training and kept is not None and modality in self.encoders
            views = self.views.all_of(modality) if many else [None]
            paths = dict.fromkeys(row[modality] for row in rows if modality in row)
            file_views = [
                (path, view) for path in paths for view in views if not (skip and (modality, path) in self.bad)
            ]
            if kept is None:
                self._check(modality, file_views, on_progress)
            else:
                self._keep(modality, kept, file_views, on_progress, skip, processes)

    def _keep(
        self,
        modality: str,
        kept: FeatureCache,
        file_views: list[FileView],
        on_progress: OnProgress | None,
        skip: bool,
        processes: Processes,
    ) -> None:
        def report(what: str, done: int, total: int) -> None:
            if on_progress is not None:
                on_progress(f"{what} {modality}", done, total)

        def perceive(batches: Sequence[Sequence[FileView]]) -> Iterator[tuple[list[FileView], BatchFeatures]]:
            return self._batches(modality, batches, skip=skip)

        kept.perceive(file_views, perceive, report, processes)
        for view in kept.lacks(file_views):
            # Another process may have met it, and it need not be among what is kept.
            if (modality, view[0]) not in self.bad and self._decoded(modality, view, skip=skip) is not None:
                raise MediaError(f"{view[0]}: was changed while it was read; run this again")

    def _check(self, modality: str, file_views: list[FileView], on_progress: OnProgress | None) -> None:
        """Read files that may be skipped, to learn which must be."""
        checked = self._checked[modality]
        unchecked = [view for view in file_views if view[0] not in checked]
        done = 0
        for batch in self._cut(unchecked):
            for view in batch:
                self._decoded(modality, view, skip=True)
            checked.update(path for path, _ in batch)
            done += len(batch)
            if on_progress is not None:
                on_progress(f"checking {modality}", done, len(unchecked))

    def _batches(
        self, modality: str, batches: Sequence[Sequence[FileView]], *, skip: bool
    ) -> Iterator[tuple[list[FileView], BatchFeatures]]:
        """Batches of views -> of each those that could be read, and their features, in main memory."""
        if modality not in self.encoders:
            return iter(())
        encoder, levels = self.encoders[modality], self.levels[modality]

        def decode(view: FileView) -> Any:
            return self._decoded(modality, view, skip=skip)

        return perceive_batches(encoder, levels, batches, decode, every_token=self.every_token)

    def _cut(self, file_views: list[FileView]) -> list[list[FileView]]:
        return [file_views[first : first + self.batch_size] for first in range(0, len(file_views), self.batch_size)]

    def _decoded(self, modality: str, file_view: FileView, *, skip: bool) -> Any:
        """A view as the encoder takes it; with `skip`, None where the file cannot be read."""
        path, view = file_view
        try:
            if modality not in self.encoders:
                raise MediaError(f"{path}: has no ready features; add them, or name an encoder (model.encoders)")
            return self._view(self.encoders[modality], path, view)
        except MediaError as error:
            if not skip:
                raise
            self.bad[modality, path] = error
            return None

    def _view(self, encoder: PerceptualEncoder, path: Path, view: View) -> Any:
        """A view; where it meets damage and files may be skipped, that of evaluation, if it can be read."""
        try:
            return self.views.decode(encoder, path, view)
        except MediaError:
            if view is None or not self.skip_bad:
                raise
        return self.views.decode(encoder, path)
