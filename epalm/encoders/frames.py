"""Clips through an encoder of pictures: every frame by itself, each level averaged over time.

For those who have no video encoder. The order of the frames is lost: whatever needs it cannot be learned from these
features. Shapes: B clips, N frames, K levels, S tokens of a frame, E width.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from epalm.encoders.base import PerceptualEncoder
from epalm.encoders.image import ImageEncoder
from epalm.encoders.token_features import TokenFeatures
from epalm.encoders.video import frames_of
from epalm.errors import ConfigError

DEFAULT_FRAMES = 8


class FrameEncoder(PerceptualEncoder):
    """An encoder of pictures that is shown the frames of clips.

    Args:
        image: the encoder; its backbone becomes this encoder's own.
        frames: N.

    Raises:
        ConfigError: there are less than 1 frame.
    """

    modality = "video"
    input_names = ("pixel_values",)

    def __init__(self, image: PerceptualEncoder, frames: int = DEFAULT_FRAMES) -> None:
        if frames < 1:
            raise ConfigError(f"frames: at least 1 is needed, got {frames}")
        self.frames: int = frames
        """N, the frames that a clip must have."""
        self._image = (image,)  # in a tuple, else its weights would be counted and stored a second time
        super().__init__(image.backbone, image.processor, image.source)

    @classmethod
    def load_processor(cls, path: str) -> Any:
        """An image processor."""
        return ImageEncoder.load_processor(path)

    @property
    def image(self) -> PerceptualEncoder:
        """The encoder of pictures."""
        return self._image[0]

    def with_own_processor(self) -> FrameEncoder:
        """As in the base."""
        clone = copy.copy(self)
        clone._image = (self.image.with_own_processor(),)
        clone.processor = clone.image.processor
        return clone

    @property
    def reading(self) -> dict[str, Any]:
        """How many frames to decode."""
        return {"frames": self.frames}

    def preprocess(self, media: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """B clips (N, H, W, 3) of 8 bits, each of any size -> {"pixel_values": (B, N, C, H', W')}.

        Raises:
            ConfigError: see `ImageEncoder.preprocess`.
            MediaError: a clip is no array (N, H, W, 3) of 8 bits.
        """
        pictures = [frame for i, clip in enumerate(media) for frame in frames_of(clip, i, self.frames)]
        pixels = self.image.preprocess(pictures)["pixel_values"]  # (B * N, C, H', W')
        return {"pixel_values": pixels.unflatten(0, (-1, self.frames))}

    def examples(self) -> dict[str, Tensor]:
        """Three clips in which nothing moves."""
        pixels = self.image.examples()["pixel_values"]  # (3, C, H', W')
        return {"pixel_values": pixels.unsqueeze(1).expand(-1, self.frames, -1, -1, -1)}

    @torch.no_grad()
    def features(self, inputs: Mapping[str, Tensor], levels: int) -> Tensor:
        """As in the base: every level (B, K, E) is the mean over the frames' features, whatever their order."""
        flat, count = self._as_pictures(inputs)
        return self.image.features(flat, levels).unflatten(0, (-1, count)).mean(dim=1)  # (B, K, E)

    @torch.no_grad()
    def tokens(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Every token of the last level, normed, frame after frame: (B, N * S, E)."""
        flat, count = self._as_pictures(inputs)
        return self.image.tokens(flat).unflatten(0, (-1, count)).flatten(1, 2)  # (B, N * S, E)

    @property
    def token_count(self) -> int | None:
        """N * S, of all frames."""
        count = self.image.token_count
        return None if count is None else self.frames * count

    @property
    def tokens_of_one(self) -> int:
        """As in the base, of all frames."""
        return self.frames * self.image.tokens_of_one

    @torch.no_grad()
    def every_token(self, inputs: Mapping[str, Tensor], levels: int) -> TokenFeatures:
        """As in the base, frame after frame: (B, K, N * S, E)."""
        flat, count = self._as_pictures(inputs)
        tokens = self.image.every_token(flat, levels)
        return tokens.chained([count] * (len(tokens) // count))

    def _as_pictures(self, inputs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], int]:
        pixels = self._placed(inputs)["pixel_values"]  # (B, N, C, H', W')
        return {"pixel_values": pixels.flatten(0, 1)}, pixels.shape[1]

    def _probe(self) -> dict[str, Tensor]:
        return self.image._probe()
