"""The recordings that stand one behind the other in one file.

Ogg files may be chained (RFC 3533), and people join WAV and FLAC files end to end. Decoders read the first recording
and say nothing of the others. Streams of frames, such as mp3, AAC and MPEG-TS, have no seam, and are one here.
"""

from __future__ import annotations

from epalm.media import ogg
from epalm.media.files import FileWindow
from epalm.media.tags import skip_id3

_HEAD = 12  # bytes: of RIFF, the size of what follows the first eight, and WAVE
_FLAC = b"fLaC"
_FIRST_BLOCKS = (b"\x00\x00\x00\x22", b"\x80\x00\x00\x22")  # head of the block of FLAC that every file begins with


def recordings(file: FileWindow) -> list[FileWindow]:
    """Each recording as a file of its own; of most formats that is the file itself.

    Raises:
        MediaError: see `ogg_recordings`.
    """
    start = skip_id3(file)  # of a format that needs none; decoders know it before mp3 and AAC alone
    head = file.at(start, _HEAD)
    if head.startswith(ogg.MAGIC):
        return ogg.ogg_recordings(file.part(start))
    if _is_wav(head):
        return _wav_recordings(file.part(start))
    if _is_flac(head):
        return _flac_recordings(file.part(start))
    return [file]


def _is_wav(head: bytes) -> bool:
    return head[:4] == b"RIFF" and head[8:] == b"WAVE"


def _is_flac(head: bytes) -> bool:
    return head[:4] == _FLAC and head[4:8] in _FIRST_BLOCKS


def _wav_recordings(file: FileWindow) -> list[FileWindow]:
    """Cut where a file ends as its head says, and another begins there."""
    starts = [0]
    while True:
        size = int.from_bytes(file.at(starts[-1] + 4, 4), "little")
        end = starts[-1] + 8 + size
        start = next((place for place in (end, end + 1) if _is_wav(file.at(place, _HEAD))), None)  # may end uneven
        if start is None:
            return _parts(file, starts)
        starts.append(start)


def _flac_recordings(file: FileWindow) -> list[FileWindow]:
    return _parts(file, [0, *(place for place in file.places(_FLAC, 1) if _is_flac(file.at(place, _HEAD)))])


def _parts(file: FileWindow, starts: list[int]) -> list[FileWindow]:
    return [file.part(start, end) for start, end in zip(starts, [*starts[1:], None], strict=True)]
