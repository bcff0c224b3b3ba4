"""Decoding: files as people have them -> arrays as encoders want them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from epalm.errors import MediaError
from epalm.media.audio import load_audio
from epalm.media.image import load_image
from epalm.media.video import load_video

LOADERS: dict[str, Callable[..., Any]] = {"image": load_image, "video": load_video, "audio": load_audio}
"""Modality -> what decodes one of its files."""


def load_media(modality: str, path: Path, **reading: Any) -> Any:
    """One decoded file, as an encoder of that modality takes it.

    Args:
        modality: one of `LOADERS`.
        path: of the file.
        reading: what the encoder says of it (`PerceptualEncoder.reading`), such as its rate or number of frames; and
            for a random view of a clip or a sound, a `rng`.

    Raises:
        MediaError: the file cannot be read, or nothing here decodes that modality.
    """
    if modality not in LOADERS:
        raise MediaError(f"{path}: nothing here decodes {modality}; there are {', '.join(LOADERS)}")
    return LOADERS[modality](path, **reading)


__all__ = ["LOADERS", "load_audio", "load_image", "load_media", "load_video"]
