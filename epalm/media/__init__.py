"""Decoding: files as people have them -> arrays as encoders want them."""

from epalm.media.image import load_image

__all__ = ["load_image"]
