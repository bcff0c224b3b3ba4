"""Whether an Ogg file is whole: of one that is cut short, or lacks a piece, decoders give what is there and are silent.

The file is a row of pages (RFC 3533), and the last one of a stream is marked. Only their heads are read.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import BinaryIO

from epalm.errors import MediaError
from epalm.media.files import FileSource

_HEAD = 27  # bytes, before the table of sizes
_LAST = 4  # mark of a stream's last page
_NO_PACKET_ENDS = (1 << 64) - 1


def refuse_a_broken_ogg(source: FileSource, rate: int, home: int | None = None) -> None:
    """See that the pages follow each other up to one that is marked as the last; whatever stands behind it is let be.

    Args:
        source: a path, or a binary file object, which is left where it was.
        rate: samples a second, for the message.
        home: where in a file object the recording begins.

    Raises:
        MediaError: they do not; the second is named up to which they do.
    """
    if isinstance(source, (str, PathLike)):
        with Path(source).open("rb") as file:
            _walk(file, rate)
        return
    here = source.tell()
    source.seek(home or 0)
    try:
        _walk(source, rate)
    finally:
        source.seek(here)


def _walk(file: BinaryIO, rate: int) -> None:
    is_last, samples = False, 0
    while (head := file.read(_HEAD))[:4] == b"OggS" and len(head) == _HEAD:
        body = sum(file.read(head[-1]))
        if len(file.read(body)) < body:
            is_last = False
            break
        is_last = bool(head[5] & _LAST)
        position = int.from_bytes(head[6:14], "little")
        samples = samples if position == _NO_PACKET_ENDS else position
    if not is_last:
        raise MediaError(f"damaged or cut short at {samples / rate:.2f} s")
