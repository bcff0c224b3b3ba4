"""Tags that people's programs put before, between and behind the frames of mp3, AAC and their kin.

ID3v2 names its size at its head; ID3v1 has one size; APEv2 names it at its head or, without one, at its foot; Lyrics3
ends with a mark. None of it is sound, and decoders take some of it for damaged frames.
"""

from __future__ import annotations

from epalm.media.files import FileWindow

_ID3V1, _ID3V1_PLUS = 128, 227  # bytes
_ID3V2_HEAD = _ID3V2_FOOT = 10
_APE_HEAD = _APE_FOOT = 32
_APE = b"APETAGEX"
_LYRICS, _LYRICS_ENDS = b"LYRICS", (b"LYRICS200", b"LYRICSEND")
_LONGEST = 1 << 20  # bytes of a tag that does not say at its head how long it is
_CHUNK = 1 << 20  # bytes read at once
_MOST_BLANK = 1 << 12  # bytes between tags
_BLANK = b"\0\t\n\r\x1a "


def skip_id3(file: FileWindow, at: int = 0) -> int:
    """Where the ID3v2 tags that stand at `at` end; `at` itself where none does."""
    while (head := file.at(at, _ID3V2_HEAD))[:3] == b"ID3" and len(head) == _ID3V2_HEAD:
        size = sum(byte << 7 * place for place, byte in enumerate(reversed(head[6:])))
        at += _ID3V2_HEAD + size + (_ID3V2_FOOT if head[5] & 0x10 else 0)
    return at


def skip_tags(file: FileWindow, at: int) -> int:
    """Where the tags of any kind that stand at `at` end, with the blanks between them and before the next frame.

    `at` itself where neither a tag stands there, nor a blank and a frame behind it.
    """
    while True:
        start = _skip_blank(file, at)
        end = _skip_tag(file, start)
        if end == start:
            break
        at = end
    return min(start if begins_frame(file, start) else at, file.size)


def begins_frame(file: FileWindow, at: int) -> bool:
    """Whether a frame of mp3, AAC or WavPack may begin at `at`."""
    head = file.at(at, 4)
    return head == b"wvpk" or (len(head) > 1 and head[0] == 0xFF and head[1] >= 0xE0)


def is_blank(file: FileWindow, at: int) -> bool:
    """Whether nothing but zeros, spaces and line ends follows."""
    while part := file.at(at, _CHUNK):
        if part.strip(_BLANK):
            return False
        at += len(part)
    return True


def _skip_blank(file: FileWindow, at: int) -> int:
    blank = file.at(at, _MOST_BLANK)
    return at + len(blank) - len(blank.lstrip(_BLANK))


def _skip_tag(file: FileWindow, at: int) -> int:
    head = file.at(at, _APE_HEAD)
    if head.startswith(b"ID3"):
        return skip_id3(file, at)
    if head.startswith(b"TAG+"):
        return at + _ID3V1_PLUS
    if head.startswith(b"TAG"):
        return at + _ID3V1
    if head.startswith(_APE) and len(head) == _APE_HEAD:
        return at + _APE_HEAD + int.from_bytes(head[12:16], "little")  # of the items and the foot
    if head.startswith(b"LYRICSBEGIN"):
        lyrics = file.part(at, at + _LONGEST)
        ends = (place + 9 for place in lyrics.places(_LYRICS, 1) if lyrics.at(place, 9) in _LYRICS_ENDS)
        return at + next(ends, 0)
    return _skip_headless_ape(file, at)


def _skip_headless_ape(file: FileWindow, at: int) -> int:
    items = file.part(at, at + _LONGEST)
    foot = next(items.places(_APE), None)
    if foot is None:
        return at
    size = int.from_bytes(items.at(foot + 12, 4), "little")
    return at + size if foot + _APE_FOOT == size else at
