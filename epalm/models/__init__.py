"""The augmented language model and everything that makes it up."""

from epalm.models.perceptual_lm import PerceptualLM

__all__ = ["PerceptualLM"]
