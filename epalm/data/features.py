"""Perceptual features of the files that a set of rows names: perceived once and kept, or anew at every visit.

Encoders are frozen, so keeping what they gave changes no number. Shapes: B batch, N distinct files, K levels, E width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
        keep: keep every file's features in memory, in full precision.
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
        self._kept: dict[tuple[str, Path], Tensor] = {}

    @classmethod
    def of_model(cls, model: PerceivingModel, *, batch_size: int = 32, keep: bool = True) -> PerceivedFiles:
        """What `model`'s encoders give at the levels it taps."""
        return cls(dict(model.encoders.items()), model.levels, batch_size=batch_size, keep=keep)

    def perceive(self, rows: Sequence[Media], on_progress: OnProgress | None = None) -> None:
        """Perceive every distinct file of `rows` that is not kept yet, once.

        Raises:
            MediaError: a file cannot be read.
        """
        for modality in self.encoders:
            paths = list(dict.fromkeys(row[modality] for row in rows if modality in row))
            paths = [path for path in paths if (modality, path) not in self._kept]
            for first in range(0, len(paths), self.batch_size):
                some = paths[first : first + self.batch_size]
                for path, features in zip(some, self._read(modality, some), strict=True):
                    self._kept[modality, path] = features.clone()
                if on_progress is not None:
                    on_progress(f"perceiving {modality}", first + len(some), len(paths))

    def of(self, rows: Sequence[Media]) -> dict[str, Tensor]:
        """Features (B, K, E) of every modality that the rows bring; the rows of a batch all bring the same ones.

        Raises:
            MediaError: a file cannot be read.
        """
        modalities = [modality for modality in self.encoders if all(modality in row for row in rows)]
        return {modality: self._stacked(modality, [row[modality] for row in rows]) for modality in modalities}

    def _stacked(self, modality: str, paths: list[Path]) -> Tensor:
        if not self.keep:
            return self._read(modality, paths)
        if any((modality, path) not in self._kept for path in paths):
            self.perceive([{modality: path} for path in paths])
        return torch.stack([self._kept[modality, path] for path in paths])  # (B, K, E)

    def _read(self, modality: str, paths: Sequence[Path]) -> Tensor:
        """Decode and perceive: (B, K, E)."""
        encoder = self.encoders[modality]
        return encoder.features(
            encoder.preprocess([load_media(modality, path) for path in paths]), self.levels[modality]
        )
