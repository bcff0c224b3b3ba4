"""Perceptual features of the files that a set of rows names: perceived once and kept, or anew at every visit.

Encoders are frozen, so keeping what they gave changes no number. Of the files themselves nothing is kept. Shapes: B
batch, K levels, E width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from epalm.data.views import View, Views
from epalm.encoders import PerceptualEncoder
from epalm.errors import MediaError

Media = Mapping[str, Path]
"""Modality -> file of one row."""
OnProgress = Callable[[str, int, int], None]
"""Called with what is under way, how much is done, and how much there is."""
Seen = tuple[Path, View]
"""One view of one file."""


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
        encoders: modality -> encoder; modalities that a row names beyond these are not perceived.
        levels: K, by modality.
        batch_size: views an encoder perceives at once.
        keep: keep the features of every view in main memory, as precise as the encoder gives them.
        views: the views that training has of files; unset: the one of evaluation alone.
        skip_bad: note which files cannot be read when training perceives them, and go on without. Evaluation never
            does.

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
    ) -> None:
        self.encoders, self.levels, self.batch_size, self.keep = dict(encoders), dict(levels), batch_size, keep
        self.views, self.skip_bad = views or Views(), skip_bad
        if keep and self.views.number is None:
            raise ValueError("views without end cannot be kept")
        self.bad: dict[tuple[str, Path], MediaError] = {}
        """Of each modality the files that cannot be read, and why; filled by `perceive`, with `skip_bad`."""
        self._kept: dict[str, dict[Seen, Tensor]] = {modality: {} for modality in encoders}
        self._checked: dict[str, set[Path]] = {modality: set() for modality in encoders}

    @classmethod
    def of_model(cls, model: PerceivingModel, **options: Any) -> PerceivedFiles:
        """What `model`'s encoders give at the levels it taps; `options` are those of the class."""
        return cls(dict(model.encoders.items()), model.levels, **options)

    def perceive(self, rows: Sequence[Media], on_progress: OnProgress | None = None, *, training: bool = False) -> None:
        """Perceive every distinct file of `rows` that is not kept yet, once a view.

        Where nothing is kept, nothing is done; but files that may be skipped are read, to learn which must be.

        Args:
            rows: whose files.
            on_progress: told of every batch.
            training: perceive the views that training has, not the one of evaluation.

        Raises:
            MediaError: a file cannot be read, and must not be skipped.
        """
        skip = training and self.skip_bad
        for modality in self.encoders if self.keep or skip else ():
            kept, checked = self._kept[modality], self._checked[modality]
            views = self.views.all_of(modality) if training and self.keep else [None]
            paths = dict.fromkeys(row[modality] for row in rows if modality in row)
            seen = [
                (path, view)
                for path in paths
                for view in views
                if (path, view) not in kept and path not in checked and not (skip and (modality, path) in self.bad)
            ]
            for first in range(0, len(seen), self.batch_size):
                some = seen[first : first + self.batch_size]
                if self.keep:
                    kept.update(self._read(modality, some, skip=skip))
                else:
                    self._decoded(modality, some, skip=True)
                    checked.update(path for path, _ in some)
                if on_progress is not None:
                    what = "perceiving" if self.keep else "checking"
                    on_progress(f"{what} {modality}", first + len(some), len(seen))

    def of(self, rows: Sequence[Media], *, step: int | None = None) -> dict[str, Tensor]:
        """Features (B, K, E) of every modality that all of the rows bring and an encoder perceives.

        Args:
            rows: modality -> file.
            step: number of the training step whose views are wanted; unset: the view of evaluation.

        Raises:
            MediaError: a file cannot be read.
        """
        if self.keep:
            self.perceive(rows, training=step is not None)
        given: dict[str, Tensor] = {}
        for modality in self.encoders:
            if all(modality in row for row in rows):
                paths = [row[modality] for row in rows]
                views = [None if step is None else self.views.drawn(modality, path, step) for path in paths]
                given[modality] = self._stacked(modality, list(zip(paths, views, strict=True)))
        return given

    def _stacked(self, modality: str, seen: list[Seen]) -> Tensor:
        for path, _ in seen:
            if (modality, path) in self.bad:
                raise self.bad[modality, path]
        features = self._kept[modality] if self.keep else self._read(modality, seen, skip=False)
        return torch.stack([features[one] for one in seen])  # (B, K, E)

    def _read(self, modality: str, seen: Iterable[Seen], *, skip: bool) -> dict[Seen, Tensor]:
        """Decode and perceive each distinct view: view -> (K, E), in main memory, where there is more room."""
        encoder, levels = self.encoders[modality], self.levels[modality]
        read: dict[Seen, Tensor] = {}
        distinct = list(dict.fromkeys(seen))
        for first in range(0, len(distinct), self.batch_size):
            decoded = self._decoded(modality, distinct[first : first + self.batch_size], skip=skip)
            if decoded:
                inputs = encoder.preprocess(list(decoded.values()))
                features = encoder.features(inputs, levels).cpu()  # (B, K, E)
                _refuse_what_is_no_number(encoder, features, list(decoded))
                read.update(zip(decoded, features, strict=True))
        return read

    def _decoded(self, modality: str, seen: Sequence[Seen], *, skip: bool) -> dict[Seen, Any]:
        """Each view as the encoder takes it; with `skip` without those of files that cannot be read."""
        decoded: dict[Seen, Any] = {}
        for path, view in seen:
            try:
                decoded[path, view] = self._view(self.encoders[modality], path, view)
            except MediaError as error:
                if not skip:
                    raise
                self.bad[modality, path] = error
        return decoded

    def _view(self, encoder: PerceptualEncoder, path: Path, view: View) -> Any:
        """A view; where it meets damage and files may be skipped, that of evaluation, if it can be read."""
        try:
            return self.views.decode(encoder, path, view)
        except MediaError:
            if view is None or not self.skip_bad:
                raise
        return self.views.decode(encoder, path)


def _refuse_what_is_no_number(encoder: PerceptualEncoder, features: Tensor, seen: Sequence[Seen]) -> None:
    """See that features (B, K, E) are finite: else training would fail later, and not say by which file."""
    finite = features.isfinite().flatten(1).all(dim=1)  # (B,)
    if not finite.all():
        path = seen[int(finite.int().argmin())][0]
        raise MediaError(
            f"{path}: {encoder.name} gives features that are not finite numbers; try model.torch_dtype float32"
        )
