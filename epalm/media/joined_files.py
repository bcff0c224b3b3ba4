"""Whether a file is several that were put one behind the other, where FFmpeg reads them all and is silent about it.

It says then how long the first is, and the time stamps of the second start over.
"""

from __future__ import annotations

from epalm.media.files import FileWindow
from epalm.media.mp4 import has_a_second_film

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # what a Matroska file begins with, and what all of it is in


def is_joined(content: FileWindow, container_format: str) -> bool:
    """Whether a second film stands behind the first.

    Args:
        content: of the file.
        container_format: of it, as FFmpeg names it. MPEG streams and Ogg are no concern of this: there only the packets
            tell.
    """
    looks = {"matroska": _is_joined_matroska, "avi": _is_joined_avi, "mp4": has_a_second_film}
    return any(name in container_format and look(content) for name, look in looks.items())


def _is_joined_matroska(file: FileWindow) -> bool:
    """Of a segment of unknown size, as live recordings have it, the end cannot be found so."""
    at = 0
    for kind in (_EBML, _SEGMENT):
        head = file.at(at, 12)
        if head[:4] != kind or len(head) < 12:
            return False
        width = 9 - head[4].bit_length()  # of the size in bytes; a bit behind so many zeros tells it
        if width > 8:
            return False
        size = int.from_bytes(head[4 : 4 + width], "big") ^ 1 << 7 * width
        if size == (1 << 7 * width) - 1:
            return False
        at += 4 + width + size
    return file.at(at, 4) == _EBML


def _is_joined_avi(file: FileWindow) -> bool:
    """Large files go on in chunks of the kind `AVIX`; a second `AVI ` is another film."""
    at, films = 0, 0
    while at < file.size:
        head = file.at(at, 12)
        if head[:4] != b"RIFF":
            break
        films += head[8:] == b"AVI "
        size = int.from_bytes(head[4:8], "little")
        at += 8 + size + size % 2
    return films > 1
