"""Which of a file's video tracks is its film: the one that a player shows."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any, TypeAlias

from epalm.errors import MediaError
from epalm.media.files import optional

# PyAV's classes; it is optional, and loaded where a file is opened.
Container: TypeAlias = Any
Stream: TypeAlias = Any

MOST_PIXELS = 1 << 26
"""Of one frame; a damaged header may claim any size, and memory for it."""
_AS_LONG = Fraction(9, 10)  # of the longest track's length: two tracks of one film are never quite of one length
_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_CLOCK = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")


def video_track(container: Container) -> Stream:
    """The track that is the film, ready to be decoded.

    Cover pictures and tracks of a single picture come last; of the others those that are marked as default are taken,
    of these the longest ones, of these the one of most pixels, and of equals the first.

    Raises:
        MediaError: there is no video track, none that can be decoded here, or its pictures are too large.
    """
    tracks = _tracks(container)
    if not tracks:
        raise MediaError("has no video stream; is it a sound?" if container.streams.audio else "has no video stream")
    tracks = [stream for stream in tracks if stream.codec_context is not None]
    if not tracks:
        raise MediaError("its video codec is not one that can be decoded here; convert it, such as to H.264 in MP4")
    track = tracks[0] if len(tracks) == 1 else _shown(container, tracks)
    if track.width * track.height > MOST_PIXELS:
        raise MediaError(f"too large to be decoded safely: {track.width} x {track.height}")
    # Loaders are processes already; and with threads a decoder reads far ahead of the frame asked for.
    track.codec_context.thread_count = 1
    return track


def decoder_of(track: Stream) -> Any:
    """What decodes the track; of VP8 and VP9 with transparency the one decoder that sees it, where it is there."""
    av = optional("av", "video")
    name = _WITH_ALPHA.get(track.codec_context.codec.name)
    has_alpha = any(key.lower() == "alpha_mode" and value == "1" for key, value in track.metadata.items())
    if name and has_alpha and name in av.codecs_available:
        decoder = av.CodecContext.create(name, "r")
        decoder.thread_count = 1
        return decoder
    return track.codec_context


def has_video(container: Container) -> bool:
    """Whether there is anything to watch; the cover of a record is not."""
    return bool(_tracks(container))


def frame_rate(track: Stream) -> Fraction:
    """Frames a second, as far as the file says; where it says nothing, 25."""
    return track.average_rate or track.guessed_rate or Fraction(25)


def _tracks(container: Container) -> list[Stream]:
    Disposition = optional("av", "video").stream.Disposition
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


def _shown(container: Container, tracks: list[Stream]) -> Stream:
    """One of several tracks."""
    Disposition = optional("av", "video").stream.Disposition
    films = [track for track in tracks if not _is_still(track)] or tracks
    films = [track for track in films if track.disposition & Disposition.default] or films
    lengths = [_length(track) for track in films]
    if None in lengths:  # FFmpeg's own choice goes by how many pictures it met while it opened the file
        best = container.streams.best("video")
        return best if best in films else films[0]
    longest = max(length for length in lengths if length is not None)
    films = [film for film, length in zip(films, lengths, strict=True) if (length or 0) >= _AS_LONG * longest]
    return max(films, key=lambda film: film.width * film.height)


def _is_still(track: Stream) -> bool:
    if track.frames == 1:
        return True
    length = _length(track)
    return length is not None and length * frame_rate(track) <= 1


def _length(track: Stream) -> Fraction | None:
    """Seconds; None where the file does not say it of this track."""
    for name, text in track.metadata.items():
        # Matroska has it in a tag, and FFmpeg the length of the whole file in its place.
        if name.upper().startswith("DURATION") and (clock := _CLOCK.match(text)):
            hours, minutes, seconds = map(Fraction, clock.groups())
            return 3600 * hours + 60 * minutes + seconds
    return track.duration * track.time_base if track.duration else None
