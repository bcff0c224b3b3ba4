"""What is on screen at moments of a film that come one after the other.

Only what leads to those moments is decoded: from the key frame before each, or onward from the moment before where
that is nearer.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from epalm.errors import MediaError
from epalm.media.display import Display, Frame
from epalm.media.files import optional
from epalm.media.timeline import MISSING, Timeline, cut_short, seek
from epalm.media.video_track import Container, decoder_of, frame_rate, video_track

Packet: TypeAlias = Any

_SEEK_BEYOND = Fraction(1)  # seconds ahead that are decoded rather than sought


class Film:
    """The film in an open container.

    Args:
        container: just opened.
        timeline: of the film.
    """

    def __init__(self, container: Container, timeline: Timeline) -> None:
        self._container, self._timeline = container, timeline
        self._track = video_track(container)
        self._tick = self._track.time_base
        self._decoder = decoder_of(self._track)
        self._seek_beyond: Fraction | float = _SEEK_BEYOND
        self._count = 0  # packets read so far, where the timeline goes by them
        self._shift = 0  # of their time stamps, in ticks
        self._read_until = timeline.start  # where the packets read so far end
        self._current: tuple[Fraction, Frame] | None = None
        self._next: tuple[Fraction, Frame] | None = None
        self._frames: Iterator[tuple[Fraction, Frame]] | None = None

    def pictures(self, moments: list[Fraction]) -> np.ndarray:
        """Moments that ascend -> (len(moments), H, W, 3) uint8.

        Raises:
            MediaError: a moment lies in a part that is damaged or not there.
        """
        display = Display(self._track, self._at(moments[0]))
        pictures: list[np.ndarray] = []
        last = None
        for moment in moments:
            frame = self._at(moment)
            pictures.append(pictures[-1] if frame is last else display.picture(frame))
            last = frame
        return np.stack(pictures)

    def _at(self, moment: Fraction) -> Frame:
        """The frame on screen at `moment`; before the first it is the first, and after the last it is the last."""
        now = self._current[0] if self._current else self._timeline.start
        try:
            if self._frames is None:
                self._restart()
            if moment - now > self._seek_beyond and self._next and self._next[0] <= moment:
                self._go_to(now, moment)
            self._advance(moment)
        except MediaError:  # a key frame may lie between the damage and the moment
            self._current = self._next = None
            self._go_to(now, moment)
            if not self._next:
                raise
            self._advance(moment)
        if not self._next and moment - self._read_until > MISSING:
            start = self._timeline.start
            raise MediaError(cut_short(self._read_until - start, self._timeline.end - start))
        if not self._current:
            raise MediaError("not one of its frames can be decoded")
        return self._current[1]

    def _advance(self, moment: Fraction) -> None:
        """Decode until the frame on screen at `moment` is the current one."""
        assert self._frames is not None
        while self._next and (self._next[0] <= moment or not self._current):
            self._current = self._next
            self._next = next(self._frames, None)

    def _go_to(self, now: Fraction, moment: Fraction) -> None:
        """Go on from the last key frame before `moment`.

        Where the key frames lie is known only to some containers. A jump that lands before what was on screen already
        costs the way from there once more; such a way is decoded without a jump from then on.
        """
        if self._timeline.key_packets is not None:
            self._walk_to(moment)
            return
        start = self._timeline.start
        step_back = Fraction(0)
        while True:
            goal = max(start, moment - step_back)
            if not seek(self._container, self._track, goal):
                self._seek_beyond = float("inf")
                return
            self._decoder.flush_buffers()
            self._restart()
            landed = self._next[0] if self._next else self._timeline.end
            if landed <= moment or goal == start:
                if landed <= now:
                    self._seek_beyond = max(self._seek_beyond, moment - landed)
                return
            step_back = 2 * step_back or _SEEK_BEYOND  # some containers go by the wrong one of a packet's time stamps

    def _walk_to(self, moment: Fraction) -> None:
        """Leave out the packets up to the last key frame before `moment`, if it was not read yet."""
        keys = self._timeline.key_packets or []
        number = max((number for number, time in keys if time <= moment), default=0)
        if number > self._count:
            self._decoder.flush_buffers()
            self._restart(number)

    def _restart(self, number: int = 0) -> None:
        self._current = None
        self._frames = self._decoded(number)
        self._next = next(self._frames, None)

    def _packets(self, number: int) -> Iterator[Packet | None]:
        """The packets from number `number` on, with time stamps of the timeline; before each further part None."""
        for packet in self._container.demux(self._track):
            if packet.size and self._timeline.key_packets is not None:
                count, self._count = self._count, self._count + 1
                if count in self._timeline.shifts:
                    self._shift = self._timeline.shifts[count]
                    if count > number:
                        yield None
                if count < number:
                    continue
                packet.pts = None if packet.pts is None else packet.pts + self._shift
                packet.dts = None if packet.dts is None else packet.dts + self._shift
            yield packet

    def _decoded(self, number: int = 0) -> Iterator[tuple[Fraction, Frame]]:
        """The frames from here on with their times, from the first key frame on: without it the others are rubble."""
        time = self._timeline.start - 1 / frame_rate(self._track)
        key_time: Fraction | None = None
        found_key_frame = False
        for packet in self._packets(number):
            if packet is not None:
                if not found_key_frame and packet.size and not packet.is_keyframe:
                    continue
                found_key_frame = True
                stamp = packet.pts if packet.pts is not None else packet.dts
                if stamp is not None:
                    self._read_until = max(self._read_until, (stamp + (packet.duration or 0)) * self._tick)
                    key_time = stamp * self._tick if key_time is None else key_time
            for frame in self._decode(packet, time):
                stamp = frame.pts if frame.pts is not None else frame.dts
                if stamp is None:  # without time stamps one could not tell where a jump has landed
                    self._seek_beyond = float("inf")
                    time += 1 / frame_rate(self._track)
                else:
                    time = stamp * self._tick
                self._read_until = max(self._read_until, time)
                if key_time is not None and time < key_time:  # made of one before the key frame, that was not decoded
                    continue
                if frame.is_corrupt:
                    raise self._damaged(time)
                yield time, frame
            if packet is None:
                key_time, found_key_frame = None, False

    def _decode(self, packet: Packet | None, time: Fraction) -> list[Frame]:
        """The frames that come out once a packet goes in; None: those that are left of a part.

        Args:
            packet: see above.
            time: of the frame before, for the message.
        """
        try:
            frames: list[Frame] = self._decoder.decode(packet)
        except optional("av", "video").error.FFmpegError:
            stamp = None if packet is None else packet.pts if packet.pts is not None else packet.dts
            raise self._damaged(time if stamp is None else stamp * self._tick) from None
        if packet is None:
            self._decoder.flush_buffers()
        return frames

    def _damaged(self, time: Fraction) -> MediaError:
        return MediaError(f"damaged at {float(max(time - self._timeline.start, Fraction(0))):.1f} s")
