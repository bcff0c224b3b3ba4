"""Mean and spread by which pixels are normalised: the encoder's own, or CLIP's, as the original code had it."""

from __future__ import annotations

import copy
from typing import Literal

from epalm.encoders.base import PerceptualEncoder
from epalm.encoders.frames import FrameEncoder
from epalm.errors import ConfigError

Statistics = Literal["own", "clip"]

_CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
_CLIP_STD = [0.26862954, 0.26130258, 0.27577711]


def use_statistics(encoder: PerceptualEncoder, statistics: Statistics) -> None:
    """Have `encoder` normalise pixels so from now on; `own` leaves it as it is.

    Raises:
        ConfigError: it takes no pixels, or has no processor that normalises them.
    """
    if encoder.modality == "audio":
        raise ConfigError(f"statistics: {encoder.name} perceives audio; only pixels are normalised by them")
    if statistics == "own":
        return
    if not hasattr(encoder.processor, "image_mean"):
        raise ConfigError(f"statistics: {encoder.name} has no image processor that normalises pixels; leave them unset")
    processor = copy.deepcopy(encoder.processor)  # it may serve another encoder, too
    processor.do_normalize, processor.image_mean, processor.image_std = True, list(_CLIP_MEAN), list(_CLIP_STD)
    for part in (encoder, encoder.image) if isinstance(encoder, FrameEncoder) else (encoder,):
        part.processor, part.statistics = processor, statistics
