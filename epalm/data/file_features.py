"""Perceptual features of the files that a set of rows names: perceived once and kept, or anew at every visit.

Encoders are frozen, so keeping what they gave changes no number. Of the files themselves nothing is kept. Shapes: B
batch, K levels, E width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from epalm.data.feature_cache import FeatureCache, InMemory
from epalm.data.perceiving import perceive_batches
from epalm.data.views import Seen, View, Views
from epalm.encoders import PerceptualEncoder
from epalm.errors import MediaError
from epalm.runtime.processes import ALONE, Processes, all_processes

Media = Mapping[str, Path]
"""Modality -> file of one row."""
OnProgress = Callable[[str, int, int], None]
"""Called with what is under way, how much is done, and how much there is."""


class PerceivingModel(Protocol):
    """Whatever has encoders and says how many levels of each it takes."""

    @property
    def encoders(self) -> Any:
        """Modality -> `PerceptualEncoder`."""

    @property
    def levels(self) -> Mapping[str, int]:
        """Modality -> K."""


class PerceivedFiles:
    """Gives the features of rows, modality by modality.

    Args:
        encoders: modality -> encoder; modalities that a row names beyond these and `kept` are not perceived.
        levels: K, by modality.
        batch_size: views an encoder perceives at once.
        keep: keep the features of every view in main memory, as precise as the encoder gives them, where `kept` names
            no better place.
        views: the views that training has of files; unset: the one of evaluation alone.
        skip_bad: note which files cannot be read when training perceives them, and go on without. Evaluation never
            does.
        kept: modality -> where its features are kept, such as a store on disk. Without an encoder those that are there
            already are all there are.
        every_token: features are (B, K, S, E), to be stored alone.

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
        """What is perceived, or ready."""
        self._checked: dict[str, set[Path]] = {modality: set() for modality in encoders}

    @classmethod
    def of_model(cls, model: PerceivingModel, **options: Any) -> PerceivedFiles:
        """What `model`'s encoders give at the levels it taps; `options` are those of the class."""
        return cls(dict(model.encoders.items()), model.levels, **options)

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
        alone: bool = False,
    ) -> None:
        """Perceive every distinct file of `rows` that is not kept yet, once a view.

        Where nothing is kept, nothing is done; but files that may be skipped are read, to learn which must be. Where
        several processes were launched, all of them must call this with the same rows, unless it is done `alone`.

        Args:
            rows: whose files.
            on_progress: told of every batch.
            training: perceive the views that training has, not the one of evaluation.
            alone: this process's rows are its own; nobody else perceives for it.

        Raises:
            MediaError: a file cannot be read, and must not be skipped.
        """
        self._perceive(rows, on_progress, training, ALONE if alone else all_processes())

    def of(self, rows: Sequence[Media], *, step: int | None = None) -> dict[str, Tensor]:
        """Features (B, K, E) of every modality that all of the rows bring and that is perceived.

        Args:
            rows: modality -> file.
            step: number of the training step whose views are wanted; unset: the view of evaluation.

        Raises:
            MediaError: a file cannot be read.
        """
        given: dict[str, Tensor] = {}
        for modality in self.modalities:
            if all(modality in row for row in rows):
                paths = [row[modality] for row in rows]
                if step is None or modality not in self.encoders:
                    seen: list[Seen] = [(path, None) for path in paths]
                else:
                    seen = [(path, self.views.drawn(modality, path, step)) for path in paths]
                given[modality] = self._given(modality, seen, rows, training=step is not None)
        return given

    def _given(self, modality: str, seen: list[Seen], rows: Sequence[Media], *, training: bool) -> Tensor:
        """Features (B, K, E) of views, perceived now if they were not before."""
        kept = self.kept.get(modality)
        if kept is not None and kept.lacks(seen):
            self._perceive(rows, None, training, ALONE)
        for path, _ in seen if self.bad else ():
            if (modality, path) in self.bad:
                raise self.bad[modality, path]
        if kept is not None:
            features = kept.take(seen)
            return features[:, -self.levels[modality] :] if features.ndim == 3 else features  # the deepest K of them
        distinct = list(dict.fromkeys(seen))
        read: dict[Seen, Tensor] = {}
        for some, features in self._batches(modality, self._cut(distinct), skip=False):
            read.update(zip(some, features, strict=True))
        return torch.stack([read[one] for one in seen])

    def _perceive(
        self, rows: Sequence[Media], on_progress: OnProgress | None, training: bool, processes: Processes
    ) -> None:
        skip = training and self.skip_bad
        for modality in self.modalities:
            kept = self.kept.get(modality)
            if kept is None and not skip:
                continue
            many = training and kept is not None and modality in self.encoders
            views = self.views.all_of(modality) if many else [None]
            paths = dict.fromkeys(row[modality] for row in rows if modality in row)
            seen = [(path, view) for path in paths for view in views if not (skip and (modality, path) in self.bad)]
            if kept is None:
                self._check(modality, seen, on_progress)
            else:
                self._keep(modality, kept, seen, on_progress, skip, processes)

    def _keep(
        self,
        modality: str,
        kept: FeatureCache,
        seen: list[Seen],
        on_progress: OnProgress | None,
        skip: bool,
        processes: Processes,
    ) -> None:
        def told(what: str, done: int, total: int) -> None:
            if on_progress is not None:
                on_progress(f"{what} {modality}", done, total)

        def perceive(batches: Sequence[Sequence[Seen]]) -> Iterator[tuple[list[Seen], Tensor]]:
            return self._batches(modality, batches, skip=skip)

        kept.perceive(seen, perceive, told, processes)
        for one in kept.lacks(seen):
            # Another process may have met it, and it need not be among what is ready.
            if (modality, one[0]) not in self.bad and self._decoded(modality, one, skip=skip) is not None:
                raise MediaError(f"{one[0]}: was changed while it was read; run this again")

    def _check(self, modality: str, seen: list[Seen], on_progress: OnProgress | None) -> None:
        """Read files that may be skipped, to learn which must be."""
        checked = self._checked[modality]
        strange = [one for one in seen if one[0] not in checked]
        done = 0
        for some in self._cut(strange):
            for one in some:
                self._decoded(modality, one, skip=True)
            checked.update(path for path, _ in some)
            done += len(some)
            if on_progress is not None:
                on_progress(f"checking {modality}", done, len(strange))

    def _batches(
        self, modality: str, batches: Sequence[Sequence[Seen]], *, skip: bool
    ) -> Iterator[tuple[list[Seen], Tensor]]:
        """Batches of views -> of each those that could be read, and their features (B, K, E), in main memory."""
        if modality not in self.encoders:
            return iter(())
        encoder, levels = self.encoders[modality], self.levels[modality]

        def decode(one: Seen) -> Any:
            return self._decoded(modality, one, skip=skip)

        return perceive_batches(encoder, levels, batches, decode, every_token=self.every_token)

    def _cut(self, seen: list[Seen]) -> list[list[Seen]]:
        return [seen[first : first + self.batch_size] for first in range(0, len(seen), self.batch_size)]

    def _decoded(self, modality: str, one: Seen, *, skip: bool) -> Any:
        """A view as the encoder takes it; with `skip`, None where the file cannot be read."""
        path, view = one
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
