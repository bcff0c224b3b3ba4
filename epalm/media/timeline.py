"""When a film begins and ends, by what its file says and by its packets; nothing is decoded.

Files that were joined one behind the other, and recordings of a broadcast, have time stamps that start over or leap in
their middle. A player shows the parts one after the other, and so they are laid here: each begins where the one before
ends. Nothing but the packets tells of it, so all of them are read where a format allows for leaps (MPEG streams, Ogg)
and where a second file stands behind the first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from epalm.errors import MediaError
from epalm.media.files import FileSource, optional
from epalm.media.joined_files import is_joined
from epalm.media.libav import opened
from epalm.media.mp4 import refuse_a_cut_fragment
from epalm.media.packet_times import PacketTimes
from epalm.media.video_track import Container, Stream, frame_rate, video_track

MISSING = Fraction(1, 2)
"""Seconds by which a clip may end before it said so; more of it is a clip cut short."""
_TOLERANCE = Fraction(1, 10)  # seconds by which what a file says of its length may differ from its packets


@dataclass(frozen=True)
class Timeline:
    """When a film is shown, in seconds of its first part's time stamps."""

    start: Fraction
    """Of the film."""
    end: Fraction
    """Of the film."""
    shifts: dict[int, int] = field(default_factory=dict)
    """Number of the packet that a further part begins with -> what to add to time stamps from there on, in ticks."""
    key_packets: list[tuple[int, Fraction]] | None = None
    """Numbers and times of the packets with a key frame, where time stamps do not lead to them; else None."""


def read_timeline(source: FileSource) -> Timeline:
    """The timeline of the film in `source`.

    Some files say nothing of the track's length, or only how long the longest of their tracks is: there the packets at
    the end tell it, and where one cannot go to the end, all packets.

    Raises:
        MediaError: there is no film, or it is cut short.
    """
    with opened(source, "a video", "video") as container:
        track = video_track(container)
        if "mp4" in container.format.name:
            refuse_a_cut_fragment(source)
        start = (track.start_time or 0) * track.time_base
        length = (track.duration or 0) * track.time_base
        is_gif = container.format.name == "gif"  # which counts no time for frames shown as short as can be
        if is_gif or _may_leap(container) or is_joined(source, container.format.name):
            return _read_through(container, track, start, length)
        if length > 0:
            if container.format.name == "avi" and track.frames > 1.1 * length * frame_rate(track):
                # The reader of AVI guesses the length of a file cut short by its size, and does not tell.
                raise MediaError(cut_short(length, track.frames / frame_rate(track)))
            return Timeline(start, start + length)
        stated = Fraction(container.duration or 0, 1_000_000)
        packets = PacketTimes(track, start)
        if stated > 0 and seek(container, track, start + stated):
            packets.read(container)
    can_seek = True
    if packets.end == start:
        with opened(source, "a video", "video") as container:
            track = video_track(container)
            packets = PacketTimes(track, start, finds_parts=True)
            packets.read(container)
            can_seek = not packets.shifts and seek(container, track, (start + packets.end) / 2)
    if stated - (packets.end_of_all - start) > MISSING:
        raise MediaError(cut_short(packets.end_of_all - start, stated))
    end = max(packets.end, start + Fraction(1, 1000))  # a picture lasts no time, and yet it is there
    return Timeline(start, end, packets.shifts, None if can_seek else packets.keys)


def cut_short(read: Fraction, stated: Fraction) -> str:
    """Why a film is refused."""
    return f"cut short: {float(read):.1f} s of {float(stated):.1f} s can be read"


def seek(container: Container, track: Stream, moment: Fraction) -> bool:
    """Go to a key frame not after `moment`, as far as the container knows; False where one cannot move in it."""
    av = optional("av", "video")
    try:
        container.seek(int(moment / track.time_base), stream=track)
    except av.error.FFmpegError:
        return False
    return True


def _may_leap(container: Container) -> bool:
    """Whether time stamps of the format may start over."""
    return bool(int(container.format.flags) & optional("av", "video").format.Flags.ts_discont.value)


def _read_through(container: Container, track: Stream, start: Fraction, length: Fraction) -> Timeline:
    """Of a film that may have several parts."""
    packets = PacketTimes(track, start, finds_parts=True, leaps_ahead=True)
    packets.read(container)
    if packets.shifts or not _may_leap(container):
        return Timeline(start, packets.end, packets.shifts, packets.keys)
    # FFmpeg looks at the time stamps near the end of the file, of which MPEG program streams have few.
    end = start + length
    return Timeline(start, end if abs(packets.end - end) <= _TOLERANCE else packets.end)
