"""Opening a file with PyAV, which is FFmpeg: video, and the sound that soundfile does not know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from typing import Any

from epalm.errors import MediaError
from epalm.media.files import FileSource, optional

# A stranger's playlist may name addresses; none is opened. Of MPEG streams that were joined the second goes on in the
# tracks of the first, though its own have other numbers.
_OPTIONS = {"protocol_whitelist": "file", "merge_pmt_versions": "1"}


@contextmanager
def opened(source: FileSource, kind: str, extra: str) -> Iterator[Any]:
    """The container in `source`, closed in the end, and a file object back where it was.

    Args:
        source: a path or a binary file object.
        kind: what was looked for ("a video").
        extra: the optional extra that installs PyAV for it.

    Raises:
        MediaError: PyAV is not installed, or finds no container that it knows.
    """
    av = optional("av", extra)
    av.logging.set_level(None)  # what FFmpeg has to say of a damaged file we say in one line
    # As a plain path a name with a colon would be an address of an unknown protocol.
    file = "file:" + fspath(source) if isinstance(source, (str, PathLike)) else source
    home = None if isinstance(source, (str, PathLike)) else source.tell()
    unknown = f"not {kind} in a format that can be read here, or damaged from its start"
    try:
        container = av.open(file, metadata_errors="replace", container_options=_OPTIONS)
    except (av.error.InvalidDataError, av.error.EOFError):
        raise MediaError(unknown) from None
    with container:
        if container.format.name == "tty":  # FFmpeg would film a text being typed
            raise MediaError(unknown)
        yield container
    if home is not None:
        source.seek(home)  # type: ignore[union-attr]
