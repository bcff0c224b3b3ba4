"""The sound track of whatever FFmpeg can read: films, and the recordings that soundfile does not know.

The track is the one that its container flags as the default, not a commentary if it can be helped, and else the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, TypeAlias, cast

import numpy as np

from epalm.errors import MediaError
from epalm.media.files import FileWindow, optional
from epalm.media.libav import opened
from epalm.media.mixdown import Block, joined
from epalm.media.mp4 import refuse_a_cut_fragment
from epalm.media.tags import begins_frame, is_blank, skip_tags

# PyAV's classes; it is optional, and loaded where a file is opened.
Container: TypeAlias = Any
Stream: TypeAlias = Any
Packet: TypeAlias = Any
Frame: TypeAlias = Any

MISSING = 0.25
"""Seconds by which a recording may end before it said so; more of it is a recording cut short."""
LONGEST = 24 * 3600
"""Seconds of a recording; packed silence and damaged time stamps may amount to any number, and memory for it."""
_GAP = 0.25  # seconds between the time stamps of two frames that are silence, and no rounding
_MOST_SILENCE = 1 << 16  # samples of it at once
_BARE_STREAMS = ("mp3", "aac", "flac", "wv", "tta")  # frames in a row, among which tags may stand
_HEAD_SAYS_LENGTH = ("mp4", "flac", "wv", "tta")  # of other formats FFmpeg guesses it by the file's size
_FRAME_COUNT = re.compile(
    rb"\xff[\xe0-\xff]..(?:..)?"  # head of a frame, and check sum
    rb"(?:(?:.{9}|.{17}|.{32})(?:Xing|Info)...[\x01\x03\x05\x07\x09\x0b\x0d\x0f](.{4})|.{32}VBRI.{10}(.{4}))",
    re.DOTALL,
)
_MOST_FILLING = 1 << 12  # bytes of zeros that fill up a block behind the sound
_AVI_SLACK = 0.1  # the share of a length by which programs that write AVI are wrong
_FIRST_FRAME = 2048  # bytes, and no mp3 has a longer one


def refuse_longer_ones(seconds: float) -> None:
    """See that a recording of at least so many seconds is none that no memory holds.

    Raises:
        MediaError: it is.
    """
    if seconds > LONGEST:
        raise MediaError(f"longer than {LONGEST // 3600} hours, or with wrong time stamps; cut it into pieces")


def cut_short(read: float, promised: float) -> MediaError:
    """What to raise of so many seconds of so many."""
    return MediaError(f"cut short: {read:.2f} s of {promised:.2f} s can be read")


def track_blocks(source: FileWindow) -> Iterator[Block]:
    """A file's sound, each block at the rate and with the channels of its own frame.

    Gaps between time stamps are silence, as in a player, where the container says that they belong to its length.

    Raises:
        MediaError: no container that FFmpeg knows, no sound track in it, or one that is damaged or cut short.
    """
    start: int | None = 0
    while start is not None:
        part = source.part(start)
        with _opened(part) as container:
            if "mp4" in container.format.name:
                refuse_a_cut_fragment(part)
            reader = _TrackReader(part, container)
            yield from joined(reader.blocks())
        start = None if reader.next_start is None else start + reader.next_start


def file_places(source: FileWindow) -> tuple[str, ...]:
    """Where each channel of a file belongs, such as FL; empty if it does not say, or FFmpeg does not know it."""
    av = optional("av", "audio")
    try:
        with _opened(source) as container:
            return _places(_sound_track(container))
    except (MediaError, av.error.FFmpegError):
        return ()


def _opened(source: FileWindow) -> AbstractContextManager[Container]:
    window = cast("BinaryIO", source.part(0))  # with a position of its own
    return opened(window, "a recording", "audio")


class _TrackReader:
    """One pass through the packets of the track.

    Args:
        source: the file that `container` reads.
        container: as it was opened.
    """

    def __init__(self, source: FileWindow, container: Container) -> None:
        self._source, self._container = source, container
        self._error = optional("av", "audio").error.FFmpegError
        self._format = container.format.name
        self._track = _sound_track(container)
        # Matroska says how long the longest of all streams is; where it does not, FFmpeg guesses, by stream.
        self._has_total_only = bool("matroska" in self._format and not self._track.duration and container.duration)
        self._promised = self._length_from_head()
        self._seconds = 0.0  # of sound so far
        self._packets_end = 0.0  # second at which the last packet ends: of the track, or of all if the length is of all
        self._frame_end: float | None = None  # time stamp at which the last frame ends
        self._bytes_end = 0  # of the last packet that could be decoded
        self._is_over = False  # nothing but blanks and tags follows, or another stream
        self._is_past_the_end = False  # something follows, though all that the head promised was there
        self.next_start: int | None = None
        """Byte at which, behind tags, further sound begins: a stream of its own."""

    def blocks(self) -> Iterator[Block]:
        """The whole track."""
        to_blocks = _ToBlocks()
        for packet in self._packets():
            for frame in self._decoded(packet):
                for block in to_blocks(frame, self._silence_before(frame)):
                    yield block
                    self._seconds += len(block.samples) / block.rate
        reached = max(self._seconds, self._packets_end)
        tolerance = max(MISSING, self._promised * _AVI_SLACK if self._format == "avi" else 0.0)
        if self._promised - reached > tolerance:
            raise cut_short(reached, self._promised)

    def _length_from_head(self) -> float:
        """Seconds that the file says it holds; 0 where it does not say."""
        track = self._track
        if self._has_total_only:
            return float(self._container.duration) / 1_000_000
        if self._format == "avi":
            return float(track.frames * track.time_base)
        is_told = self._format in _HEAD_SAYS_LENGTH or "mp4" in self._format
        return float(track.duration * track.time_base) if track.duration and is_told else 0.0

    def _packets(self) -> Iterator[Packet]:
        packets = self._container.demux(*([] if self._has_total_only else [self._track]))
        start = (self._track.start_time or 0) * self._track.time_base
        is_first = True
        while True:
            try:
                packet = next(packets, None)
            except self._error:
                if not self._is_no_sound(self._bytes_end):
                    raise self._damaged() from None
                return
            if packet is None or self._is_over:
                return
            if packet.pts is not None and (self._has_total_only or "mp4" in self._format):
                end = (packet.pts + (packet.duration or 0)) * packet.time_base
                self._packets_end = max(self._packets_end, float(end if self._has_total_only else end - start))
            if packet.stream.index != self._track.index:
                continue
            if is_first and self._format == "mp3":
                self._promised = self._length_of_mp3(packet)
            is_first = False
            yield packet

    def _length_of_mp3(self, first: Packet) -> float:
        """Seconds by the number of frames in the frame before the first packet, which holds no sound; 0 without one.

        FFmpeg's own number is a guess wherever something stands behind the sound.
        """
        begin = max(0, (first.pos or 0) - _FIRST_FRAME)
        found = _FRAME_COUNT.search(self._source.at(begin, (first.pos or 0) - begin))
        frames = int.from_bytes(found[1] or found[2], "big") if found else 0
        return float(frames * (first.duration or 0) * first.time_base)

    def _decoded(self, packet: Packet) -> list[Frame]:
        try:
            frames: list[Frame] = packet.decode()
        except self._error:
            if packet.pos is not None and self._is_no_sound(packet.pos):
                return []
            raise self._damaged() from None
        if packet.size and self._is_past_the_end:  # and yet more sound: what could not be decoded was some as well
            raise self._damaged()
        if packet.size:
            self._bytes_end = (packet.pos or 0) + packet.size
            if self._format == "mp3":  # of whose sound FFmpeg drops what the encoder added at both ends
                self._packets_end += float((packet.duration or 0) * packet.time_base)
        return frames

    def _is_no_sound(self, at: int) -> bool:
        """Whether what stands at byte `at`, and could not be decoded, are tags, or stands behind the sound."""
        if self._format not in _BARE_STREAMS:
            return False
        end = skip_tags(self._source, at)
        if end > at and begins_frame(self._source, end):
            self.next_start = end
        is_filling = is_blank(self._source, end) and (end > at or self._ends_well(at))
        self._is_over = is_filling or self.next_start is not None
        self._is_past_the_end = self._promised > 0 and self._seconds >= self._promised - MISSING
        return self._is_over or self._is_past_the_end

    def _ends_well(self, at: int) -> bool:
        """Whether the zeros from byte `at` on stand behind the sound, and not in the place of some of it.

        Where the file says how long it is, that decides. Else a file whose rest was never written ends amid a frame,
        and what fills up the block of a whole one follows a frame.
        """
        count = self._source.size - at
        is_short = count <= MISSING * at / max(self._seconds, MISSING)
        fills_up = count <= _MOST_FILLING and self._source.at(max(0, at - 2), 2) != bytes(2)
        return self._promised > 0 or is_short or fills_up

    def _silence_before(self, frame: Frame) -> int:
        """Samples between the end of the last frame and the time stamp of this one."""
        if frame.pts is None or frame.time_base is None:
            return 0
        begin, before = float(frame.pts * frame.time_base), self._frame_end
        self._frame_end = begin + frame.samples / frame.sample_rate
        gap = 0.0 if before is None else begin - before
        is_real = gap > _GAP and self._seconds + gap <= self._promised
        if is_real:
            refuse_longer_ones(self._seconds + gap)
        return round(gap * frame.sample_rate) if is_real else 0

    def _damaged(self) -> MediaError:
        return MediaError(f"damaged at {self._seconds:.2f} s")


class _ToBlocks:
    """Frames of any sample format -> blocks; rate and channels stay, and may change on the way."""

    def __init__(self) -> None:
        self._kind: tuple[str, str, int] | None = None
        self._places: tuple[str, ...] = ()
        self._to_float: Any = None

    def __call__(self, frame: Frame, silence: int) -> Iterator[Block]:
        """A frame, with so many samples of silence before it."""
        kind = frame.format.name, frame.layout.name, frame.sample_rate
        if kind != self._kind:
            self._kind, self._places = kind, _places(frame)
            self._to_float = optional("av", "audio").AudioResampler(format="fltp")
        for start in range(0, silence, _MOST_SILENCE):
            count = min(_MOST_SILENCE, silence - start)
            yield Block(frame.sample_rate, np.zeros((count, frame.layout.nb_channels), np.float32), self._places)
        for piece in self._to_float.resample(frame):
            yield Block(piece.sample_rate, piece.to_ndarray().T, self._places)


def _sound_track(container: Container) -> Stream:
    """The track to hear; pictures and data are none."""
    if not container.streams.audio:
        raise MediaError("has no sound track")
    tracks = [track for track in container.streams.audio if track.codec_context is not None]
    if not tracks:
        raise MediaError("its sound is coded in a way that cannot be read here")
    flags = optional("av", "audio").stream.Disposition
    beside = flags.comment | flags.hearing_impaired | flags.visual_impaired | flags.descriptions
    return min(tracks, key=lambda track: (not track.disposition & flags.default, bool(track.disposition & beside)))


def _places(sound: Frame | Stream) -> tuple[str, ...]:
    """Where each channel belongs, such as FL; empty if the file does not say."""
    names = tuple(channel.name for channel in sound.layout.channels)
    return () if "NONE" in names else names
