"""What the packets of a film tell of its length, and of the parts that it was put together from."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, TypeAlias

from epalm.media.video_track import Container, Stream, frame_rate

Packet: TypeAlias = Any

_TOLERANCE = Fraction(1, 10)  # seconds that time stamps may go back by at a key frame and mean nothing
_LEAP = 10  # seconds ahead, or back in the order of decoding, that no film goes by itself


class PacketTimes:
    """The times of the packets of a film that are read.

    A new part begins where time stamps start over: a key frame comes that lies before a frame already there. With
    `leaps_ahead` it begins as well behind a gap in which no other track has anything, either.

    Args:
        track: the film.
        start: of the film, in seconds.
        finds_parts: the packets are read from the first on, and there may be several parts.
        leaps_ahead: a gap may be no part of the film.
    """

    def __init__(self, track: Stream, start: Fraction, *, finds_parts: bool = False, leaps_ahead: bool = False) -> None:
        self._track, self._start, self._tick = track, start, track.time_base
        self._finds_parts, self._leaps_ahead = finds_parts, leaps_ahead
        self._frame = 1 / frame_rate(track)  # seconds
        # In whole ticks, for there may be a million packets: more than these is more than so many seconds.
        self._frame_ticks = round(self._frame / self._tick)
        self._tolerance_ticks, self._leap_ticks = int(_TOLERANCE / self._tick), int(_LEAP / self._tick)
        self._count = 0
        self._shift = 0  # ticks, of the part that is read
        self._new_part: int | None = None  # its first packet, until its first key frame
        self._highest: int | None = None  # time stamp of the part, before it is shifted
        self._part_end = 0  # likewise
        self._seconds: set[int] = set()  # of the part, in which other tracks have packets
        self._other_ends: dict[int, tuple[int, Fraction]] = {}  # number of a track -> time stamp, and tick of the track
        self._end = start  # by the count of packets without time stamps
        self._last_stamp: int | None = None  # at which the last of the others ends
        self.shifts: dict[int, int] = {}
        """See `Timeline`."""
        self.keys: list[tuple[int, Fraction]] = []
        """Number and time of each packet with a key frame."""

    @property
    def end(self) -> Fraction:
        """Where the film ends, its parts one after the other, in seconds."""
        return self._end if self._last_stamp is None else max(self._end, self._last_stamp * self._tick)

    @property
    def end_of_all(self) -> Fraction:
        """Where the last of all tracks ends, in seconds."""
        return max([self.end, *(end * tick for end, tick in self._other_ends.values())])

    def read(self, container: Container) -> None:
        """All packets from here on."""
        for packet in container.demux():
            if not packet.size:
                continue
            stamp = packet.pts if packet.pts is not None else packet.dts
            if packet.stream_index == self._track.index:
                self._read_own(packet, stamp)
                self._count += 1
            elif stamp is not None:
                tick = packet.time_base
                self._seconds.add(stamp * tick.numerator // tick.denominator)
                end = stamp + (packet.duration or 0)
                if end > self._other_ends.get(packet.stream_index, (end - 1, tick))[0]:
                    self._other_ends[packet.stream_index] = end, tick

    def _read_own(self, packet: Packet, stamp: int | None) -> None:
        if stamp is None:
            self._end = max(self._end, self._start + (self._count + 1) * self._frame)
            return
        if packet.is_discard:  # cut off by an edit list
            return
        if self._finds_parts and self._new_part is None and self._begins_part(packet, stamp):
            self._new_part = self._count
        if self._new_part is not None:
            if not packet.is_keyframe:  # without it the others are rubble
                return
            self._shift += self._part_end - stamp
            self.shifts[self._new_part] = self._shift
            self._new_part, self._highest = None, None
            self._seconds.clear()
        if self._highest is None:
            self._highest = self._part_end = stamp
        duration = packet.duration or 0
        self._highest = max(self._highest, stamp)
        self._part_end = max(self._part_end, stamp + (duration or self._frame_ticks))
        end = stamp + self._shift + duration
        self._last_stamp = end if self._last_stamp is None else max(self._last_stamp, end)
        if packet.is_keyframe:
            self.keys.append((self._count, (stamp + self._shift) * self._tick))

    def _begins_part(self, packet: Packet, stamp: int) -> bool:
        if self._highest is None:
            return False
        back = self._highest - stamp
        if back > self._leap_ticks or (back > self._tolerance_ticks and packet.is_keyframe):
            return True
        return self._leaps_ahead and -back > self._leap_ticks and not self._is_accompanied(self._part_end, stamp)

    def _is_accompanied(self, begin: int, end: int) -> bool:
        """Whether other tracks go on meanwhile, as under a picture that stays."""
        first, last = int(begin * self._tick) + 1, int(end * self._tick) - 1
        if last - first >= 2 * len(self._seconds):  # damaged time stamps make gaps of any length
            return False
        return 2 * len(self._seconds.intersection(range(first, last + 1))) > last - first + 1
