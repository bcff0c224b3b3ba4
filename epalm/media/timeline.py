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
from epalm.media.files import FileSource, FileWindow, optional
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


def read_timeline(source: FileSource, content: FileWindow) -> Timeline:
    """The timeline of the film in `source`.

    Some files say nothing of the track's length, or only how long the longest of their tracks is: there the packets at
    the end tell it, and where one cannot go to the end, all packets.

    Args:
        source: the file.
        content: of it, with a position of its own.

    Raises:
        MediaError: there is no film, or it is cut short.
    """
    with opened(source, "a video", "video") as container:
        track = video_track(container)
        name = container.format.name
        if "mp4" in name:
            refuse_a_cut_fragment(content)
        start = (track.start_time or 0) * track.time_base
        length = (track.duration or 0) * track.time_base
        of_all = Fraction(container.duration or 0, 1_000_000)
        indexed = _indexed_length(container, track, start)
        if abs(indexed - length) > MISSING:
            length, of_all = Fraction(0), indexed
        may_leap, joined = _may_leap(container), is_joined(content, name)
        can_seek = not joined
        is_gif = name == "gif"  # whose length counts no time for frames that are shown as short as can be
        if may_leap or joined or is_gif:
            packets = PacketTimes(track, start, finds_parts=True, leaps_ahead=may_leap or joined)
            packets.read(container)
            if may_leap and length > 0 and not packets.shifts and abs(start + length - packets.end) <= _TOLERANCE:
                return Timeline(start, start + length)
        elif length > 0:
            if name == "avi" and track.frames > 1.1 * length * frame_rate(track):
                # The reader of AVI guesses the length of a file cut short by its size, and does not tell.
                raise MediaError(cut_short(length, track.frames / frame_rate(track)))
            return Timeline(start, start + length)
        else:
            packets = PacketTimes(track, start)
            if of_all > 0 and seek(container, track, start + of_all):
                packets.read(container)
    if packets.end == start:
        with opened(source, "a video", "video") as container:
            track = video_track(container)
            packets = PacketTimes(track, start, finds_parts=True)
            packets.read(container)
            can_seek = can_seek and seek(container, track, (start + packets.end) / 2)
    read = max(packets.end_of_all, packets.end_of_all - start)  # some count the length from 0, others from the start
    if of_all - read > MISSING and not may_leap:
        raise MediaError(cut_short(packets.end_of_all - start, of_all))
    end = max(packets.end, start + Fraction(1, 1000))  # a picture lasts no time, and yet it is there
    return Timeline(start, end, packets.shifts, None if can_seek and not packets.shifts else packets.keys)


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


def _indexed_length(container: Container, track: Stream, start: Fraction) -> Fraction:
    """Seconds that the track of an MP4 lasts by its list of samples, of others by what is said of it.

    The head of an MP4 may say anything. Samples are listed by when they are decoded, somewhat before they are shown;
    those that an edit list cuts off are marked. Of what comes in fragments not all is listed.
    """
    if "mp4" in container.format.name and track.frames:
        index = track.index_entries
        shown = (index[number] for number in reversed(range(len(index))) if not index[number].is_discard)
        if last := next(shown, None):
            return last.timestamp * track.time_base + 1 / frame_rate(track) - start
    return Fraction(track.duration or 0) * track.time_base


def _may_leap(container: Container) -> bool:
    """Whether time stamps of the format may start over or leap."""
    return bool(int(container.format.flags) & optional("av", "video").format.Flags.ts_discont.value)
