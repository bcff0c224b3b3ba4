"""Frozen encoders: a picture, a clip or a sound -> perceptual features (B, K, E)."""

from epalm.encoders.audio import AudioEncoder, LongSounds
from epalm.encoders.audio_families import ClapEncoder, SpectrogramEncoder, SpeechEncoder, WaveformEncoder
from epalm.encoders.base import PerceptualEncoder
from epalm.encoders.frames import FrameEncoder
from epalm.encoders.image import ImageEncoder
from epalm.encoders.loading import load_encoder
from epalm.encoders.registry import register_encoder
from epalm.encoders.statistics import Statistics
from epalm.encoders.token_features import TokenFeatures
from epalm.encoders.video import VideoEncoder

__all__ = [
    "AudioEncoder",
    "ClapEncoder",
    "FrameEncoder",
    "ImageEncoder",
    "LongSounds",
    "PerceptualEncoder",
    "SpectrogramEncoder",
    "SpeechEncoder",
    "Statistics",
    "TokenFeatures",
    "VideoEncoder",
    "WaveformEncoder",
    "load_encoder",
    "register_encoder",
]
