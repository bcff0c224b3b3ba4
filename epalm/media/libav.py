"""Opening a file with PyAV, which is FFmpeg: video, and the sound that soundfile does not know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from os import PathLike, fspath
from typing import Any

from epalm.errors import MediaError
from epalm.media.files import FileSource, optional

# Playlists hold nothing themselves: what they name may be changed, or be any file or address that a stranger chose, and
# for the rest of a live one FFmpeg would wait for ever. Of a text it would film how it is typed.
_NOT_READ = ("hls", "dash", "concat", "tty")


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
        container = av.open(file, metadata_errors="replace", container_options=_options(av))
    except (av.error.InvalidDataError, av.error.EOFError, av.error.ArgumentError):  # the last: of what is not read
        raise MediaError(unknown) from None
    with container:
        yield container
    if home is not None:
        source.seek(home)  # type: ignore[union-attr]


@cache
def _options(av: Any) -> dict[str, str]:
    """What FFmpeg is told of every file."""
    return {
        "protocol_whitelist": "file",
        "format_whitelist": ",".join(sorted(av.formats_available - set(_NOT_READ))),
        # Of MPEG streams that were joined the second goes on in the tracks of the first, though its own have other
        # numbers.
        "merge_pmt_versions": "1",
    }
