"""Encoders of clips: TimeSformer ([CLS]), ViViT ([CLS]), VideoMAE (mean over its tokens), and others built so.

Inputs: `pixel_values` (B, N, C, H, W), made by the encoder's own image processor from N decoded frames a clip: arrays
(N, H, W, 3) of 8 bits, the frames in the order of time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoModelForVideoClassification, VivitImageProcessor

from epalm.encoders.base import PerceptualEncoder, own_weights
from epalm.encoders.registry import register_encoder
from epalm.errors import ConfigError, DataError, MediaError, UnsupportedModelError
from epalm.runtime.locks import lock_of


@register_encoder("video", "timesformer")  # transformers counts TimeSformer among the models of pictures
class VideoEncoder(PerceptualEncoder):
    """Any encoder that takes clips and nothing else.

    Args:
        backbone: see `PerceptualEncoder`.
        processor: see `PerceptualEncoder`.
        source: see `PerceptualEncoder`.
        frames: N; by default what the encoder was trained with. TimeSformer takes any number, its time embeddings being
            stretched to it; the others take that number alone.

    Raises:
        ConfigError: `frames` is not a number that the encoder takes.
        UnsupportedModelError: see `PerceptualEncoder`.
    """

    modality = "video"
    input_names = ("pixel_values",)

    def __init__(
        self, backbone: nn.Module, processor: Any = None, source: str | None = None, *, frames: int | None = None
    ) -> None:
        with lock_of(backbone):
            self.frames: int = _num_frames_of(backbone, frames, source or type(backbone).__name__)
            """N, the frames that a clip must have."""
        with _num_frames_set(backbone, self.frames):
            super().__init__(backbone, processor, source)

    @classmethod
    def load_backbone(cls, path: str, config: Any, **options: Any) -> tuple[nn.Module, list[str]]:
        """As in the base; of VideoMAE with mean pooling also the norm, which lies in the part that classifies."""
        if config.model_type != "videomae" or not config.use_mean_pooling:
            return super().load_backbone(path, config, **options)
        backbone, missing = own_weights(AutoModelForVideoClassification, path, config, **options)
        if any(key.startswith("fc_norm.") for key in missing):  # saved without that part: there is no norm to read
            prefix = backbone.base_model_prefix + "."
            return backbone.base_model, [key.removeprefix(prefix) for key in missing if key.startswith(prefix)]
        return backbone, missing

    @classmethod
    def load_processor(cls, path: str) -> Any:
        """The image processor in its Pillow form, or ViViT's, which has no other name for it."""
        try:
            return AutoImageProcessor.from_pretrained(path, backend="pil", trust_remote_code=False)
        except (ImportError, ValueError):
            settings, _ = VivitImageProcessor.get_image_processor_dict(path)
            if "offset" not in settings:  # ViViT's own setting
                raise
            return VivitImageProcessor.from_dict(settings)

    @property
    def reading(self) -> dict[str, Any]:
        """How many frames to decode."""
        return {"frames": self.frames}

    def preprocess(self, media: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """B clips (N, H, W, 3) of 8 bits, each of any size -> {"pixel_values": (B, N, C, H', W')}.

        Raises:
            ConfigError: the encoder was built without a processor, or its processor gives clips of several sizes.
            MediaError: a clip is no array (N, H, W, 3) of 8 bits.
        """
        if self.processor is None:
            raise ConfigError(f"{self.name}: built without an image processor; give load_encoder(..., processor=...)")
        clips = [frames_of(clip, i, self.frames) for i, clip in enumerate(media)]
        pixels = [self.processor(clip, return_tensors="pt")["pixel_values"] for clip in clips]  # each (1, N, C, H', W')
        if len({clip.shape for clip in pixels}) > 1:
            raise ConfigError(f"{self.name}: its image processor gives clips of several sizes, which cannot be batched")
        return {"pixel_values": torch.cat(pixels)}

    def examples(self) -> dict[str, Tensor]:
        """A brightening clip twice and its negative, through the processor if there is one."""
        if self.processor is not None:
            ramp = np.linspace(0, 255, 64 * 64 * 3).astype(np.uint8).reshape(1, 64, 64, 3)
            frames = np.repeat(ramp, self.frames, axis=0)
            return self.preprocess([frames, frames, 255 - frames])
        config = self.backbone.config
        size, channels = getattr(config, "image_size", None), getattr(config, "num_channels", 3)
        if size is None:
            raise UnsupportedModelError(f"{self.name}: names no `image_size`; give load_encoder(..., processor=...)")
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        shape = (self.frames, channels, height, width)
        clip = torch.linspace(-1, 1, int(np.prod(shape))).reshape(shape)
        return {"pixel_values": torch.stack([clip, clip, -clip])}

    def _placed(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        placed = super()._placed(inputs)
        shape = tuple(placed["pixel_values"].shape)
        if len(shape) != 5 or shape[1] != self.frames:
            raise DataError(f"{self.name}: pixel_values: expected (B, {self.frames}, C, H, W), got {shape}")
        return placed

    def _read(self, inputs: Mapping[str, Tensor], levels: int, pick: Callable[[Tensor], Tensor]) -> list[Tensor]:
        with _num_frames_set(self.backbone, self.frames):
            return super()._read(inputs, levels, pick)

    def _norm_required(self) -> bool:
        # VideoMAE with mean pooling has its only norm in the part that classifies, which may not have been saved.
        return getattr(self.backbone.config, "model_type", None) != "videomae"


def frames_of(clip: Any, index: int, frames: int) -> list[Image.Image]:
    """The frames of clip number `index`.

    Raises:
        MediaError: the clip is no array (N, H, W, 3) of 8 bits with N = `frames`.
    """
    if not (isinstance(clip, np.ndarray) and clip.dtype == np.uint8 and clip.ndim == 4 and clip.shape[3] == 3):
        found = f"{clip.dtype} {clip.shape}" if isinstance(clip, np.ndarray) else type(clip).__name__
        raise MediaError(f"clip {index}: not an array (frames, H, W, 3) of 8 bits but {found}")
    if len(clip) != frames or 0 in clip.shape:
        raise MediaError(f"clip {index}: expected {frames} frames, got {clip.shape}")
    return [Image.fromarray(frame) for frame in clip]


def _num_frames_of(backbone: nn.Module, frames: int | None, name: str) -> int:
    """Frames of a clip: as wished where the architecture takes any number, else the encoder's own."""
    config: Any = getattr(backbone, "config", None)
    own = getattr(config, "num_frames", None)
    if own is None:
        raise UnsupportedModelError(f"{name}: its configuration names no `num_frames`")
    if frames is None or frames == own:
        return int(own)
    if frames < 1:
        raise ConfigError(f"frames: at least 1 is needed, got {frames}")
    if config.model_type != "timesformer":
        raise ConfigError(f"frames: {name} takes {own} frames and no other number, {frames} were asked for")
    return frames


@contextmanager
def _num_frames_set(backbone: nn.Module, frames: int) -> Iterator[None]:
    """Inside this context the backbone, every block of which reads its configuration anew, takes so many frames.

    Outside it takes what it did: one backbone may serve several models. Other threads wait for theirs.
    """
    config: Any = backbone.config
    with lock_of(backbone):
        own, config.num_frames = config.num_frames, frames
        try:
            yield
        finally:
            config.num_frames = own
