"""Perceptual features of the files that a set of rows names: perceived once and kept, or anew at every visit.

Encoders are frozen, so keeping what they gave changes no number. Shapes: B batch, N distinct files, K levels, E width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from epalm.encoders import PerceptualEncoder
from epalm.media import load_media

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
        encoders: modality -> encoder; modalities that a row names beyond these are not perceived.
        levels: K, by modality.
        batch_size: files an encoder perceives at once.
        keep: keep every file's features in main memory, as precise as the encoder gives them.
    """

    def __init__(
        self,
        encoders: Mapping[str, PerceptualEncoder],
        levels: Mapping[str, int],
        *,
        batch_size: int = 32,
        keep: bool = True,
    ) -> None:
        self.encoders, self.levels, self.batch_size, self.keep = dict(encoders), dict(levels), batch_size, keep
        self._kept: dict[str, dict[Path, Tensor]] = {modality: {} for modality in encoders}

    @classmethod
    def of_model(cls, model: PerceivingModel, *, batch_size: int = 32, keep: bool = True) -> PerceivedFiles:
        """What `model`'s encoders give at the levels it taps."""
        return cls(dict(model.encoders.items()), model.levels, batch_size=batch_size, keep=keep)

    def perceive(self, rows: Sequence[Media], on_progress: OnProgress | None = None) -> None:
        """Perceive every distinct file of `rows` that is not kept yet, once; nothing is done where nothing is kept.

        Raises:
            MediaError: a file cannot be read.
        """
        for modality in self.encoders if self.keep else ():
            kept = self._kept[modality]
            paths = list(dict.fromkeys(row[modality] for row in rows if modality in row and row[modality] not in kept))
            for first in range(0, len(paths), self.batch_size):
                some = paths[first : first + self.batch_size]
                kept.update(self._read(modality, some))
                if on_progress is not None:
                    on_progress(f"perceiving {modality}", first + len(some), len(paths))

    def of(self, rows: Sequence[Media]) -> dict[str, Tensor]:
        """Features (B, K, E) of every modality that all of the rows bring and an encoder perceives.

        Raises:
            MediaError: a file cannot be read.
        """
        self.perceive(rows)
        modalities = [modality for modality in self.encoders if all(modality in row for row in rows)]
        return {modality: self._stacked(modality, [row[modality] for row in rows]) for modality in modalities}

    def _stacked(self, modality: str, paths: list[Path]) -> Tensor:
        features = self._kept[modality] if self.keep else self._read(modality, paths)
        return torch.stack([features[path] for path in paths])  # (B, K, E)

    def _read(self, modality: str, paths: Iterable[Path]) -> dict[Path, Tensor]:
        """Decode and perceive each distinct file: path -> (K, E), in main memory, where there is more room."""
        encoder, levels = self.encoders[modality], self.levels[modality]
        read: dict[Path, Tensor] = {}
        distinct = list(dict.fromkeys(paths))
        for first in range(0, len(distinct), self.batch_size):
            some = distinct[first : first + self.batch_size]
            inputs = encoder.preprocess([load_media(modality, path, **encoder.reading) for path in some])
            read.update(zip(some, encoder.features(inputs, levels).cpu(), strict=True))
        return read
