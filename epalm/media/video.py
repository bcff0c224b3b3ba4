"""Clips as they come -> as many upright RGB frames as asked for, spread over the whole clip.

The clip is cut into n equal intervals and one moment is taken in each: its middle in evaluation, a random one in
training. What a player shows at that moment is the frame, by the time stamps, so a variable frame rate needs no care
and a clip of fewer frames than asked for repeats them.

A clip that is damaged or cut short is refused where one of the moments lies in the part that is lost, and gives its
frames where none does. MPEG streams and GIFs do not say how long they are, and give what is there; nor does a
fragmented MP4, which is refused where it ends inside a fragment. A few flipped bits in a picture of VP8, VP9 or HEVC,
which carry no check, cannot be noticed by anybody.

Only what leads to those moments is decoded: from the key frame before each, or onward from the moment before where
that is nearer. A film of two hours costs as much as a clip of one minute.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from epalm.errors import MediaError
from epalm.media.files import FileSource, naming, optional, refuse_what_is_no_file
from epalm.media.libav import opened
from epalm.media.mp4 import refuse_a_cut_fragment

# PyAV's classes; it is optional, and loaded where a file is opened.
Container: TypeAlias = Any
Stream: TypeAlias = Any
Frame: TypeAlias = Any

_SEEK_BEYOND = Fraction(1)  # seconds ahead that are decoded rather than sought
_MISSING = Fraction(1, 2)  # seconds by which a clip may end before it said so; more of it is a clip cut short
_MOST_PIXELS = 1 << 26  # of one frame; a damaged header may claim any size, and memory for it


def load_video(source: FileSource, frames: int, *, rng: random.Random | None = None) -> np.ndarray:
    """Read `frames` frames of one clip from a path or a binary file object.

    Args:
        source: a video file, or an animation.
        frames: how many equal intervals the clip is cut into, and frames are taken.
        rng: draws the moment in each interval (training); without it each gives its middle (evaluation).

    Returns:
        (frames, H, W, 3) uint8, RGB, turned as the file says it is to be shown. H and W are the first frame's.

    Raises:
        MediaError: one line with the file's name and why it cannot be read: missing, a directory, empty, no video, no
            video in it, damaged or cut short (and at which second, if the frames asked for lie there), too large to be
            decoded safely, or a package that is not installed.
    """
    with naming(source):
        refuse_what_is_no_file(source, "a video")
        start, length = _extent(source)
        moments = [start + length * (i + _place_in_interval(rng)) / frames for i in range(frames)]
        with opened(source, "a video", "video") as container:
            film = _Film(container, _video_of(container), start, start + length)
            return film.pictures(moments)


def _place_in_interval(rng: random.Random | None) -> Fraction:
    """Where in an interval of length 1 its moment lies; exact, lest rounding give the neighbour of the frame."""
    return Fraction(1, 2) if rng is None else Fraction(rng.random())


def _video_of(container: Container) -> Stream:
    av = optional("av", "video")
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:  # the cover of a record
            if stream.width * stream.height > _MOST_PIXELS:
                raise MediaError(f"too large to be decoded safely: {stream.width} x {stream.height}")
            # Loaders are processes already; and with threads a decoder reads far ahead of the frame asked for.
            stream.codec_context.thread_count = 1
            return stream
    raise MediaError("has no video stream; is it a sound?" if container.streams.audio else "has no video stream")


def _extent(source: FileSource) -> tuple[Fraction, Fraction]:
    """When the clip begins and how long it lasts, in seconds; nothing is decoded.

    Some files say nothing of the stream's length, or only how long the longest of their streams is: there the packets
    at the end tell it, and where one cannot go to the end, all packets.
    """
    with opened(source, "a video", "video") as container:
        stream = _video_of(container)
        if "mp4" in container.format.name:
            refuse_a_cut_fragment(source)
        start = (stream.start_time or 0) * stream.time_base
        if stream.duration and stream.duration > 0:
            length = stream.duration * stream.time_base
            if container.format.name == "avi" and stream.frames > 1.1 * length * _rate(stream):
                # The reader of AVI guesses the length of a file cut short by its size, and does not tell.
                raise MediaError(_cut_short(length, stream.frames / _rate(stream)))
            return start, length
        stated = Fraction(container.duration or 0, 1_000_000)
        end, container_end = start, start
        if stated > 0 and _seek(container, stream, start + stated):
            end, container_end = _end_of_packets(container, stream, start)
    if end == start:
        with opened(source, "a video", "video") as container:
            stream = _video_of(container)
            end, container_end = _end_of_packets(container, stream, start)
    if stated - (container_end - start) > _MISSING:
        raise MediaError(_cut_short(container_end - start, stated))
    return start, max(end - start, Fraction(1, 1000))  # a picture lasts no time, and yet it is there


def _end_of_packets(container: Container, stream: Stream, start: Fraction) -> tuple[Fraction, Fraction]:
    """Where the stream ends, and where the last of all streams does, by the packets from here on."""
    end, container_end, packets = start, start, 0
    for packet in container.demux():
        if not packet.size:
            continue
        stamp = packet.pts if packet.pts is not None else packet.dts
        packet_end = None if stamp is None else (stamp + (packet.duration or 0)) * packet.time_base
        if packet.stream.index == stream.index:
            packets += 1
            packet_end = start + packets / _rate(stream) if packet_end is None else packet_end
            end = max(end, packet_end)
        container_end = max(container_end, packet_end or start)
    return end, container_end


def _cut_short(read: Fraction, stated: Fraction) -> str:
    return f"cut short: {float(read):.1f} s of {float(stated):.1f} s can be read"


def _rate(stream: Stream) -> Fraction:
    return stream.average_rate or stream.guessed_rate or Fraction(25)


def _seek(container: Container, stream: Stream, moment: Fraction) -> bool:
    """Go to a key frame not after `moment`, as far as the container knows; False where one cannot move in it."""
    av = optional("av", "video")
    try:
        container.seek(int(moment / stream.time_base), stream=stream)
    except av.error.FFmpegError:
        return False
    return True


class _Film:
    """What is on screen at moments that come one after the other."""

    def __init__(self, container: Container, stream: Stream, start: Fraction, end: Fraction) -> None:
        self._container, self._stream, self._start, self._end = container, stream, start, end
        self._seek_beyond: Fraction | float = _SEEK_BEYOND
        self._read_until = start  # where the packets read so far end
        self._current: tuple[Fraction, Frame] | None = None
        self._frames = self._decoded()
        self._next = next(self._frames, None)

    def pictures(self, moments: list[Fraction]) -> np.ndarray:
        """Moments that ascend -> (len(moments), H, W, 3) uint8."""
        to_rgb = optional("av.video.reformatter", "video").VideoReformatter()
        first = self._at(moments[0])
        pictures: list[np.ndarray] = []
        last = None
        for moment in moments:
            frame = self._at(moment)
            if frame is last:
                pictures.append(pictures[-1])
                continue
            rgb = to_rgb.reformat(frame, first.width, first.height, "rgb24").to_ndarray()
            pictures.append(_upright(rgb, frame))
            last = frame
        return np.stack(pictures)

    def _at(self, moment: Fraction) -> Frame:
        """The frame on screen at `moment`; before the first it is the first, and after the last it is the last."""
        now = self._current[0] if self._current else self._start
        if moment - now > self._seek_beyond and self._next and self._next[0] <= moment:
            self._go_to(now, moment)
        while self._next and (self._next[0] <= moment or not self._current):
            self._current = self._next
            self._next = next(self._frames, None)
        if not self._next and moment - self._read_until > _MISSING:
            raise MediaError(_cut_short(self._read_until - self._start, self._end - self._start))
        if not self._current:
            raise MediaError("not one of its frames can be decoded")
        return self._current[1]

    def _go_to(self, now: Fraction, moment: Fraction) -> None:
        """Go on from the last key frame before `moment`.

        Where the key frames lie is known only to some containers. A jump that lands before what was on screen already
        costs the way from there once more; such a way is decoded without a jump from then on.
        """
        step_back = Fraction(0)
        while True:
            goal = max(self._start, moment - step_back)
            if not _seek(self._container, self._stream, goal):
                self._seek_beyond = float("inf")
                return
            self._current = None
            self._frames = self._decoded()
            self._next = next(self._frames, None)
            landed = self._next[0] if self._next else self._end
            if landed <= moment or goal == self._start:
                if landed <= now:
                    self._seek_beyond = max(self._seek_beyond, moment - landed)
                return
            step_back = (
                2 * step_back or _SEEK_BEYOND
            )  # some containers go by the wrong one of a packet's two time stamps

    def _decoded(self) -> Iterator[tuple[Fraction, Frame]]:
        """The frames from here on with their times, from the first key frame on: without it the others are rubble."""
        av = optional("av", "video")
        tick, time = self._stream.time_base, self._start - 1 / _rate(self._stream)
        key_time: Fraction | None = None
        found_key_frame = False
        for packet in self._container.demux(self._stream):
            if not found_key_frame and packet.size and not packet.is_keyframe:
                continue
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is not None:
                self._read_until = max(self._read_until, (stamp + (packet.duration or 0)) * tick)
                key_time = stamp * tick if key_time is None else key_time
            found_key_frame = True
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                raise self._damaged(time if stamp is None else stamp * tick) from None
            for frame in frames:
                stamp = frame.pts if frame.pts is not None else frame.dts
                if stamp is None:  # without time stamps one could not tell where a jump has landed
                    self._seek_beyond = float("inf")
                    time += 1 / _rate(self._stream)
                else:
                    time = stamp * tick
                self._read_until = max(self._read_until, time)
                if (
                    key_time is not None and time < key_time
                ):  # shown before the key frame, made of one that was not decoded
                    continue
                if frame.is_corrupt:
                    raise self._damaged(time)
                yield time, frame

    def _damaged(self, time: Fraction) -> MediaError:
        return MediaError(f"damaged at {float(max(time - self._start, Fraction(0))):.1f} s")


def _upright(rgb: np.ndarray, frame: Frame) -> np.ndarray:
    """(H, W, 3) as stored -> as shown: (H, W, 3) or, on its side, (W, H, 3)."""
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return rgb
    # Where a pixel at (x, y) is shown: (a x + c y, b x + d y). Only quarter turns and mirrorings are made.
    a, b, _, c, d = np.frombuffer(bytes(side_data), np.int32)[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        across, down = a, d
    else:
        rgb, across, down = rgb.transpose(1, 0, 2), c, b
    return rgb[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]
