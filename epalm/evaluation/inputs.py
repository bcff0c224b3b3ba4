"""What one asks about: a file, or several of one input by modality -> the media of a row."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from epalm.data.rows import MODALITIES
from epalm.errors import DataError, MediaError
from epalm.media.animation import is_animated
from epalm.media.modality import modality_of

Input = str | Path | Mapping[str, str | Path]
"""A file, perceived as its name says, or files by modality, such as `{"image": "a.jpg", "audio": "a.wav"}`."""


def media_of(files: Input, modalities: Collection[str], audio: str | Path | None = None) -> dict[str, Path]:
    """The media of a row that is asked about.

    A file is what can be perceived, if that is one thing, else what its name says (`modality_of`); a film is heard
    where nobody watches, and an animated picture is watched where nobody looks at pictures.

    Args:
        files: see `Input`.
        modalities: what can be perceived; none: everything is taken, and nothing of it perceived.
        audio: a sound that goes with the file; a film is a sound as well.

    Raises:
        DataError: a file's name does not tell what it is, or what is given cannot be perceived.
        MediaError: nothing will be perceived, and a file is not there.
    """
    if not isinstance(files, Mapping):
        others = [name for name in modalities if name != "audio"] if audio is not None and modalities else modalities
        files = {_kind(files, others or modalities): files}
    media = {name: Path(file) for name, file in files.items()}
    if audio is not None:
        if "audio" in media:
            raise DataError(f"{audio}: is a second sound beside {media['audio']}; give a picture or a film with it")
        media["audio"] = Path(audio)
    if not media:
        raise DataError("there is nothing to perceive; give a file")
    for name, file in media.items():
        if name not in MODALITIES:
            raise DataError(f"{file}: '{name}' is none of {', '.join(MODALITIES)}")
        if modalities and name not in modalities:
            raise DataError(f"{file}: is given as {name}, but what is perceived is {' and '.join(modalities)}")
        if not modalities and not os.path.exists(file):  # noqa: PTH110  nobody else will look for it
            raise MediaError(f"{file}: no such file")
    return media


def _kind(file: str | Path, modalities: Collection[str]) -> str:
    """What `file` is perceived as, of `modalities`."""
    if len(modalities) == 1:
        return next(iter(modalities))
    kind = modality_of(file)
    if not modalities:
        return kind or MODALITIES[0]
    if kind == "video" and "video" not in modalities and "audio" in modalities:
        return "audio"
    if kind == "image" and "image" not in modalities and is_animated(file):
        kind = "video"
    either = " or ".join(modalities)
    if kind is None:
        raise DataError(f"{file}: cannot tell whether it is {either}; give it a name that says so")
    if kind not in modalities:
        raise DataError(f"{file}: is {kind} by its name; what is perceived is {either}")
    return kind
