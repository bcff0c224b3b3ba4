"""Whether a fragmented MP4 is whole: of one that is cut short FFmpeg takes what is there for all there is.

Such files come from recorders and streaming sites. They are a row of boxes (ISO 14496-12), in which every `moof` says
what is in the `mdat` behind it, and nothing says how many there are. A cut inside a fragment shows; one between two
fragments leaves a whole, shorter file. Only the heads of the boxes are read.
"""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from epalm.errors import MediaError
from epalm.media.files import FileSource

_HEAD = 8  # bytes: size and kind
_LARGE = 16  # bytes, with a size of 64 bits behind them
_OF_A_FRAGMENT = (b"styp", b"sidx", b"emsg", b"prft", b"moof", b"mdat")


def refuse_a_cut_fragment(source: FileSource) -> None:
    """See that the last fragment is whole, if there are fragments; whatever else stands behind it is let be.

    Args:
        source: a path, or a binary file object, which is left where it was.

    Raises:
        MediaError: it is not.
    """
    if isinstance(source, (str, PathLike)):
        with Path(source).open("rb", buffering=0) as file:
            is_cut = _is_cut(file)
    elif source.seekable():
        here = source.tell()
        try:
            is_cut = _is_cut(source)
        finally:
            source.seek(here)
    else:
        return
    if is_cut:
        raise MediaError("cut short: its last fragment is not whole")


def _is_cut(file: BinaryIO) -> bool:
    """Whether the file has fragments, and ends inside one."""
    end = file.seek(0, os.SEEK_END)
    at, last, has_fragments = 0, b"", False
    while at < end:
        file.seek(at)
        head = file.read(_LARGE)
        if len(head) < _HEAD:
            return has_fragments and bool(head.strip(b"\0\r\n "))  # no box at all: a line end, or what fills up a block
        size, last = int.from_bytes(head[:4], "big"), head[4:8]
        has_fragments = has_fragments or last == b"moof"
        if size == 1:
            size = int.from_bytes(head[_HEAD:], "big")
        if size == 0:  # the rest of the file
            return False
        if size < _HEAD or at + size > end:
            return has_fragments and last in _OF_A_FRAGMENT
        at += size
    return has_fragments and last == b"moof"
