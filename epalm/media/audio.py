"""Recordings as they come -> one channel at the rate an encoder wants.

Channels are mixed down (`mixdown`) and the rate is changed by a band-limited resampler: the original code did neither,
and fed 44.1 kHz sound to an encoder of 16 kHz. The sound track of a film is a recording as well. Where the rate or the
channels change on the way, and where several recordings are joined in one file, every part is heard at its own rate.

A recording cut short is refused where the file says how long it should be. An mp3 of constant rate does not, nor does
AAC without a container, or AC-3, MPEG-TS or a live stream of Matroska; they give what is there.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from epalm.errors import MediaError
from epalm.media.files import FileSource, FileWindow, binary, naming, optional, refuse_what_is_no_file
from epalm.media.mixdown import Block, Mixdown
from epalm.media.recordings import recordings
from epalm.media.tags import begins_frame
from epalm.media.tracks import MISSING, cut_short, file_places, refuse_longer_ones, track_blocks

_BLOCK = 1 << 18  # frames read at once: an hour in six channels is never in memory as it is in the file
_RATES = range(1_000, 1_000_000)  # a damaged header may claim any rate, and memory for all that it would amount to
_PROMISE = re.compile(r"(?:data|SSND|Data Size|Riff size|riff)\s*: (\d+) \(should be ([1-9]\d*)\)")
_NO_LENGTH = re.compile(r"data : 0\n(?:\*\*\* Unknown chunk|Have 0 marker)")  # of a wav, and no chunk follows it
_UNKNOWN_SIZE = 0x7F000000  # bytes; programs that write into a pipe promise so many or more
_UNKNOWN_FRAMES = 1 << 60  # soundfile's number for it is larger


def load_audio(
    source: FileSource, rate: int, *, window: int | None = None, rng: random.Random | None = None
) -> np.ndarray:
    """Read one recording from a path or a binary file object: wav, flac, ogg, mp3, or whatever FFmpeg knows.

    Args:
        source: a sound file, or a video file with a sound track.
        rate: samples a second of the result.
        window: samples of the result that are perceived at once.
        rng: draws the stretch of `window` samples that is kept of a longer sound (training); without it, or without a
            window, all of it is kept.

    Returns:
        (N,) float32, full scale at 1.0; N is the duration times `rate`, rounded, or `window`. Two channels become their
        mean; of surround sound see `mixdown`. Of channels that cancel, being in opposite phase, it is the loudest one.

    Raises:
        MediaError: one line with the file's name and why it cannot be read: missing, a directory, empty, no recording,
            no sound in it, damaged, cut short, longer than a day, samples that are not numbers, or a package that is
            not installed.
    """
    with naming(source):
        refuse_what_is_no_file(source, "a recording")
        with binary(source) as file:
            mixdown = Mixdown()
            sound = _resampled(mixdown.mono(_blocks(file)), rate)
            if cancelled := mixdown.cancelled():
                sound = _resampled(Mixdown(cancelled).mono(_blocks(file)), rate)
    if rng is None or window is None or len(sound) <= window:
        return sound
    start = rng.randint(0, len(sound) - window)
    return sound[start : start + window].copy()  # a view would keep the whole in memory


def _resampled(pieces: Iterable[tuple[int, np.ndarray]], rate: int) -> np.ndarray:
    """Pieces (frames,), each with its rate -> (N,) at `rate`; stretches of another rate are resampled apart."""
    soxr = optional("soxr", "audio")
    stream, stream_rate, parts = None, rate, [np.empty(0, np.float32)]
    seconds = 0.0
    for piece_rate, piece in pieces:
        if piece_rate not in _RATES:
            raise MediaError(f"damaged: it claims {piece_rate} samples a second")
        seconds += len(piece) / piece_rate
        refuse_longer_ones(seconds)
        if piece_rate != stream_rate:
            parts.append(_rest(stream))
            stream_rate = piece_rate
            same = stream_rate == rate
            stream = None if same else soxr.ResampleStream(stream_rate, rate, 1, dtype="float32", quality="HQ")
        parts.append(stream.resample_chunk(piece) if stream else piece)
    parts.append(_rest(stream))
    sound = np.concatenate(parts)
    if not len(sound):
        if seconds:
            raise MediaError(f"too short: {1000 * seconds:.3f} ms are not one sample at {rate} Hz")
        raise MediaError("holds no sound: 0 samples can be read")
    return sound


def _rest(stream: Any) -> np.ndarray:
    """What a resampler still holds."""
    empty = np.empty(0, np.float32)
    rest: np.ndarray = stream.resample_chunk(empty, last=True) if stream else empty
    return rest


def _blocks(file: FileWindow) -> Iterator[Block]:
    """All recordings in the file, piece by piece."""
    for number, recording in enumerate(recordings(file)):
        for block in _recording_blocks(recording):
            yield block._replace(recording=number)


def _recording_blocks(file: FileWindow) -> Iterator[Block]:
    """One recording, by soundfile where it knows the format and by FFmpeg where it does not."""
    soundfile = optional("soundfile", "audio")
    if _is_mpeg(file):
        yield from track_blocks(file)
        return
    try:
        sound = soundfile.SoundFile(file.part(0))
    except (soundfile.LibsndfileError, TypeError):  # TypeError: a name in .raw, which tells nothing of what is in it
        yield from track_blocks(file)
        return
    with sound:
        _refuse_a_shortened_file(sound)
        if _is_better_left_to_ffmpeg(sound):
            yield from track_blocks(file)
            return
        places = file_places(file) if sound.channels > 2 else ()
        left = sound.frames
        while left > 0:
            block = sound.read(min(_BLOCK, left), dtype="float32", always_2d=True)
            if not len(block):
                raise cut_short((sound.frames - left) / sound.samplerate, sound.frames / sound.samplerate)
            left -= len(block)
            yield Block(sound.samplerate, block, places)


def _is_mpeg(file: FileWindow) -> bool:
    """Whether soundfile would call its MPEG decoder, which writes its thoughts on a damaged file to the terminal."""
    return file.at(0, 3) == b"ID3" or begins_frame(file, 0)


def _is_better_left_to_ffmpeg(sound: Any) -> bool:
    """Whether soundfile opens a file, and yet does not read it, or reads it as something else than it is."""
    has_surround = sound.format == "OGG" and sound.channels > 2  # in an order of its own, and some it cannot read
    is_mpeg = sound.subtype.startswith("MPEG")  # in a wav, whose length it guesses
    is_w64 = sound.format == "W64"  # some floats are taken for integers
    has_no_length = sound.frames > _UNKNOWN_FRAMES or _NO_LENGTH.search(sound.extra_info) is not None
    return has_surround or is_mpeg or is_w64 or has_no_length


def _refuse_a_shortened_file(sound: Any) -> None:
    """Of a wav cut short soundfile takes what is there, and tells only its log that the header promises more."""
    found = _PROMISE.search(sound.extra_info)
    if found and sound.frames:
        promised, there = map(int, found.groups())
        read = sound.frames / sound.samplerate
        if promised < _UNKNOWN_SIZE and promised / there * read - read > MISSING:
            raise cut_short(read, promised / there * read)
