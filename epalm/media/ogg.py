"""Ogg files: where each of the recordings chained in one begins, and whether all of them are whole.

Decoders read the first recording of a chain, and give what is there of one that is cut short or lacks a piece; they say
nothing of the rest. A file is a row of pages (RFC 3533): each has a check sum and a number in its stream, and the first
and the last page of a stream are marked. A recording is the pages of streams that begin together.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

from epalm.errors import MediaError
from epalm.media.files import FileWindow

MAGIC = b"OggS"
_HEAD = 27  # bytes, before the table of sizes
_LONGEST_PAGE = _HEAD + 255 + 255 * 255
_LONGEST_FIRST_PAGE = 1 << 12  # of a stream: one short packet
_FIRST, _LAST = 2, 4  # marks of a stream's first and last page
_NO_PACKET_ENDS = (1 << 64) - 1
_RATES: dict[bytes, Callable[[bytes], int]] = {
    b"\x01vorbis": lambda packet: int.from_bytes(packet[12:16], "little"),
    b"OpusHead": lambda packet: 48_000,
    b"\x7fFLAC": lambda packet: int.from_bytes(packet[27:30], "big") >> 4,
    b"Speex   ": lambda packet: int.from_bytes(packet[36:40], "little"),
}
"""How the first packet of a stream of sound begins -> the samples a second, told from that packet."""
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass
class _Stream:
    """A stream of sound, up to one of its pages."""

    rate: int
    number: int = 0
    """Of the page."""
    position: int = 0
    """Samples up to its end."""
    is_over: bool = False

    @property
    def seconds(self) -> float:
        return self.position / max(1, self.rate)

    def goes_on(self, page: bytes) -> bool:
        """Take the next page; False where one between is missing. Who edits tags may number the first ones anew."""
        number = int.from_bytes(page[18:22], "little")
        if self.position and number != self.number + 1:
            return False
        position = int.from_bytes(page[6:14], "little")
        self.number, self.is_over = number, bool(page[5] & _LAST)
        self.position = self.position if position == _NO_PACKET_ENDS else position
        return True


def ogg_recordings(file: FileWindow) -> list[FileWindow]:
    """The recordings chained in an Ogg file; what stands between and behind them, such as a tag, is let be.

    Raises:
        MediaError: a stream of sound is damaged, lacks pages, or has no last page; the second is named up to which all
            is well.
    """
    recordings: list[FileWindow] = []
    start: int | None = 0
    seconds = 0.0
    while start is not None:
        end, streams = _walk(file, start)
        seconds += max((stream.seconds for stream in streams), default=0.0)
        if not all(stream.is_over for stream in streams):
            raise MediaError(f"damaged or cut short at {seconds:.2f} s")
        recordings.append(file.part(start, end))
        start = _next_first_page(file, end)
    return recordings


def _walk(file: FileWindow, start: int) -> tuple[int, list[_Stream]]:
    """Where the recording that begins at `start` ends, or the part of it that is well; and its streams of sound."""
    at, is_head, streams = start, True, dict[int, _Stream]()
    while page := _page(file, at):
        serial, is_first = int.from_bytes(page[14:18], "little"), bool(page[5] & _FIRST)
        if is_first and not is_head:
            break
        is_head = is_first
        packet = page[_HEAD + page[_HEAD - 1] :]
        for beginning, rate in _RATES.items():
            if is_first and packet.startswith(beginning):
                streams[serial] = _Stream(rate(packet))
        if serial in streams and not streams[serial].goes_on(page):
            streams[serial].is_over = False
            break
        at += len(page)
    return at, list(streams.values())


def _page(file: FileWindow, at: int, longest: int = _LONGEST_PAGE) -> bytes | None:
    """The whole page that begins there; None: there is none, or it is damaged, or longer than that."""
    head = file.at(at, _HEAD)
    if head[:4] != MAGIC or len(head) < _HEAD:
        return None
    size = _HEAD + head[-1] + sum(file.at(at + _HEAD, head[-1]))
    if size > longest or len(page := file.at(at, size)) < size:
        return None
    return page if _check_sum(page[:22] + bytes(4) + page[26:]) == int.from_bytes(page[22:26], "little") else None


def _check_sum(data: bytes) -> int:
    """CRC-32 as Ogg takes it, from each byte's highest bit on: zlib's of the reversed bits, itself reversed."""
    reversed_sum = zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(reversed_sum.to_bytes(4, "little").translate(_REVERSED), "big")


def _next_first_page(file: FileWindow, at: int) -> int | None:
    """Where the next stream begins at `at` or behind it; None: nowhere."""
    for start in file.places(MAGIC, at):
        page = _page(file, start, _LONGEST_FIRST_PAGE)
        if page and page[5] & _FIRST:
            return start
    return None
