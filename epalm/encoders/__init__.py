"""Frozen encoders: a picture (later a clip, a recording) -> perceptual features (B, K, E)."""

from epalm.encoders.base import PerceptualEncoder
from epalm.encoders.image import ImageEncoder
from epalm.encoders.loading import load_encoder
from epalm.encoders.registry import register_encoder

__all__ = ["ImageEncoder", "PerceptualEncoder", "load_encoder", "register_encoder"]
