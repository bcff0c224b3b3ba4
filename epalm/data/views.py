"""Which view of a file a visit in training gets: which frames, which stretch of sound, which part of a picture.

Evaluation has one view of every file: the middle frame of each interval, the first window of a sound or all of them,
the whole picture. Training has that view as well, or random ones: a random frame in each interval, a random stretch of
a sound that is longer than the window, masked if `mask_sounds` says so, and of a picture what `augment` says. A random
view has a number, and shows what seed, name of the file and number make of it: whichever rows share a batch, and
whether features are kept or not, the same visit sees the same.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from epalm.encoders import PerceptualEncoder
from epalm.encoders.masking import MaskedSound
from epalm.media import load_media
from epalm.media.augment import Augment, augmented

View = int | None
"""Number of a random view; None: the one of evaluation."""
FileView = tuple[Path, View]
"""One view of one file."""


@dataclass(frozen=True)
class Views:
    """The views that training has of files. Files of one name in several directories are drawn alike."""

    number: int | None = 1
    """How many of each file: 1: that of evaluation; V of 2 and more: V random ones, of which every visit draws one;
    None: a random one of its own for every visit."""
    seed: int = 0
    """Of the run."""
    augment: Augment = "none"
    """What makes another view of a picture; with `none` there is but one."""
    mask_sounds: bool = False
    """Random views of sounds have a band of channels and a stretch of time silenced (SpecAugment)."""
    evaluation_frames: Literal["middle", "random"] = "middle"
    """Of each interval of a clip, in the view of evaluation: the middle frame, or one drawn once and for all."""

    def all_of(self, modality: str) -> list[View]:
        """Every view that training has of a file, where their number is known."""
        return [None] if self._is_one(modality) else list(range(self.number or 0))

    def drawn(self, modality: str, path: Path, step: int) -> View:
        """The view that step number `step` has of a file."""
        if self._is_one(modality):
            return None
        return step if self.number is None else self._rng(path, f"step {step}").randrange(self.number)

    def decode(self, encoder: PerceptualEncoder, path: Path, view: View = None) -> Any:
        """A view of a file, as `encoder` takes it.

        Raises:
            MediaError: it cannot be read.
        """
        if view is None and encoder.modality == "video" and self.evaluation_frames == "random":
            return load_media("video", path, rng=self._rng(path, "evaluation"), **encoder.reading)
        if view is None:
            return load_media(encoder.modality, path, **encoder.reading)
        rng = self._rng(path, f"view {view}")
        if encoder.modality == "image":
            return augmented(load_media("image", path), rng, self.augment)
        media = load_media(encoder.modality, path, rng=rng, **encoder.reading)
        masks = self.mask_sounds and encoder.modality == "audio"
        return MaskedSound(media, f"{self.seed} {path.name} view {view} masks") if masks else media

    def altered(self, modality: str) -> str:
        """How random views of a modality are altered beyond what is read of a file; empty where they are not."""
        return {"image": self.augment, "audio": "masked" if self.mask_sounds else ""}.get(modality, "")

    def _is_one(self, modality: str) -> bool:
        return self.number == 1 or (modality == "image" and self.augment == "none")

    def _rng(self, path: Path, what: str) -> random.Random:
        return random.Random(f"{self.seed} {path.name} {what}")
