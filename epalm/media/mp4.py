"""What the boxes of an MP4 tell that FFmpeg does not: whether its fragments are whole, and are of one film.

An MP4 is a row of boxes (ISO 14496-12). Recorders and streaming sites write fragmented ones, in which every `moof` says
what is in the `mdat` behind it, and nothing says how many there are: of one that is cut short FFmpeg takes what is
there for all there is. A cut inside a fragment shows; one between two fragments leaves a whole, shorter file. Only the
heads of the boxes are read.
"""

from __future__ import annotations

from collections.abc import Iterator

from epalm.errors import MediaError
from epalm.media.files import FileWindow

_HEAD = 8  # bytes: size and kind
_LARGE = 16  # bytes, with a size of 64 bits behind them
_NO_KIND = b""  # of a box of which less is there than its head
_OF_A_FRAGMENT = (b"styp", b"sidx", b"emsg", b"prft", b"moof", b"mdat", _NO_KIND)


def refuse_a_cut_fragment(file: FileWindow) -> None:
    """See that the last fragment is whole, if there are fragments; whatever else stands behind it is let be.

    Raises:
        MediaError: it is not.
    """
    has_fragments, kind, is_whole = False, _NO_KIND, True
    for box in _boxes(file):
        kind, is_whole = box
        has_fragments = has_fragments or kind == b"moof"
    if has_fragments and (kind == b"moof" or (not is_whole and kind in _OF_A_FRAGMENT)):
        raise MediaError("cut short: its last fragment is not whole")


def has_a_second_film(file: FileWindow) -> bool:
    """Whether another film stands behind the fragments of the first; without fragments players show the first alone."""
    has_fragments = False
    for kind, _ in _boxes(file):
        if has_fragments and kind == b"moov":
            return True
        has_fragments = has_fragments or kind == b"moof"
    return False


def _boxes(file: FileWindow) -> Iterator[tuple[bytes, bool]]:
    """The kind of each box, and whether all of it is there; what follows one that is not cannot be found."""
    at = 0
    while at < file.size:
        head = file.at(at, _LARGE)
        if len(head) < _HEAD:
            if head.strip(b"\0\r\n "):  # else no box at all: a line end, or what fills up a block
                yield _NO_KIND, False
            return
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if size == 1:
            size = int.from_bytes(head[_HEAD:], "big")
        if size == 0:  # the rest of the file
            size = file.size - at
        is_whole = _HEAD <= size <= file.size - at
        yield kind, is_whole
        if not is_whole:
            return
        at += size
