"""Encoders of pictures: ViT, DeiT, BEiT, DINOv2, the vision towers of CLIP and SigLIP, and whatever else is built so.

Inputs: `pixel_values` (B, C, H, W), made by the encoder's own image processor from Pillow pictures of mode RGB or
arrays (H, W, 3) of 8 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor

from epalm.encoders.base import PerceptualEncoder
from epalm.encoders.registry import register_encoder
from epalm.errors import ConfigError, MediaError, UnsupportedModelError

_MAX_ASPECT = 16


@register_encoder("image")
class ImageEncoder(PerceptualEncoder):
    """Any encoder that takes pictures and nothing else."""

    modality = "image"
    input_names = ("pixel_values",)

    @classmethod
    def load_processor(cls, path: str) -> Any:
        """The image processor in its Pillow form: torchvision's gives slightly other pixels and is not everywhere."""
        return AutoImageProcessor.from_pretrained(path, backend="pil", trust_remote_code=False)

    def preprocess(self, media: Sequence[Image.Image | np.ndarray]) -> dict[str, Tensor]:
        """B pictures, each of any size -> {"pixel_values": (B, C, H, W)}.

        Raises:
            ConfigError: the encoder was built without a processor, or its processor gives pictures of several sizes.
            MediaError: a picture is neither a Pillow image of mode RGB nor an array (H, W, 3) of 8 bits.
        """
        if self.processor is None:
            raise ConfigError(f"{self.name}: built without an image processor; give load_encoder(..., processor=...)")
        pictures = [self._trimmed(_rgb(picture, i)) for i, picture in enumerate(media)]
        try:
            batch = self.processor(images=pictures, return_tensors="pt")
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"{self.name}: its image processor cannot batch these pictures: {reason}") from None
        return {name: batch[name] for name in self.input_names}

    def examples(self) -> dict[str, Tensor]:
        """A brightening picture twice and its negative, through the processor if there is one."""
        ramp = np.linspace(0, 255, 64 * 64 * 3).astype(np.uint8).reshape(64, 64, 3)
        if self.processor is not None:
            return self.preprocess([ramp, ramp, 255 - ramp])
        size = getattr(self.backbone.config, "image_size", None)
        if size is None:
            raise UnsupportedModelError(f"{self.name}: names no `image_size`; give load_encoder(..., processor=...)")
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        channels = getattr(self.backbone.config, "num_channels", 3)
        picture = torch.linspace(-1, 1, channels * height * width).reshape(channels, height, width)
        return {"pixel_values": torch.stack([picture, picture, -picture])}

    @cached_property
    def grid(self) -> tuple[int, int] | None:
        """As in the base, by the patches' size that the configuration names."""
        size = getattr(self.backbone.config, "patch_size", None)
        if size is None:
            return None
        patch = size if isinstance(size, (list, tuple)) else (size, size)
        pixels = self.examples()["pixel_values"].shape[-2:]
        rows, columns = (length // side for length, side in zip(pixels, patch, strict=True))
        return (rows, columns) if self.special_tokens + rows * columns == self.anatomy.tokens else None

    def _trimmed(self, picture: Image.Image) -> Image.Image:
        """Cut off the ends of a very long picture that the processor would blow up only to throw them away.

        Processors that scale the shortest side and keep the centre would turn 20,000 x 10 into 448,000 x 224 first.
        """
        size = getattr(self.processor, "size", None) or {}
        if not ("shortest_edge" in size and getattr(self.processor, "do_center_crop", False)):
            return picture
        width, height = picture.size
        long, short = max(width, height), min(width, height)
        if long <= _MAX_ASPECT * short:
            return picture
        cut = (long - _MAX_ASPECT * short) // 2  # the same at both ends, so the centre stays the centre
        return picture.crop((cut, 0, width - cut, height) if width > height else (0, cut, width, height - cut))


def _rgb(picture: Image.Image | np.ndarray, index: int) -> Image.Image:
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3:
        return Image.fromarray(picture)
    if isinstance(picture, Image.Image) and picture.mode == "RGB":
        return picture
    found = f"a {picture.mode} picture" if isinstance(picture, Image.Image) else type(picture).__name__
    raise MediaError(
        f"picture {index}: neither RGB nor an array (H, W, 3) of 8 bits but {found}; use epalm.media.load_image"
    )
