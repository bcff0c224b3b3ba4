"""Recordings as they come -> one channel at the rate an encoder wants.

Channels are averaged and the rate is changed by a band-limited resampler: the original code did neither, and fed
44.1 kHz sound to an encoder of 16 kHz. The sound track of a video file is a recording as well. A recording cut short is
refused where the file says how long it should be. An mp3 of constant rate does not, nor does a Matroska stream, and of
an AVI, W64 or CAF nothing can be told; they give what is there.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from epalm.errors import MediaError
from epalm.media.files import FileSource, naming, optional, refuse_what_is_no_file
from epalm.media.libav import opened
from epalm.media.ogg import refuse_a_broken_ogg

_BLOCK = 1 << 18  # frames read at once: an hour in six channels is never in memory as it is in the file
_RATES = range(1_000, 1_000_000)  # a damaged header may claim any rate, and memory for all that it would amount to
_MISSING = 0.25  # seconds by which a recording may end before it said so; more of it is a recording cut short
_PROMISE = re.compile(r"(?:data|SSND|Data Size)\s*: (\d+) \(should be ([1-9]\d*)\)")
_UNKNOWN_SIZE = 0x7F000000  # bytes; programs that write into a pipe promise so many or more
_COUNTS = (b"Xing", b"Info", b"VBRI")  # in an mp3's first frame, before the number of frames
_FIRST_FRAME = 2048  # bytes, and no mp3 has a longer one

Block = tuple[int, np.ndarray]  # sampling rate, (frames, channels) float32


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
        (N,) float32, the mean of the channels, full scale at 1.0; N is the duration times `rate`, rounded, or `window`.

    Raises:
        MediaError: one line with the file's name and why it cannot be read: missing, a directory, empty, no recording,
            no sound in it, damaged, cut short, samples that are not numbers, or a package that is not installed.
    """
    with naming(source):
        refuse_what_is_no_file(source, "a recording")
        sound = _resampled(_blocks(source), rate)
    if rng is None or window is None or len(sound) <= window:
        return sound
    start = rng.randint(0, len(sound) - window)
    return sound[start : start + window].copy()  # a view would keep the whole in memory


def _resampled(blocks: Iterable[Block], rate: int) -> np.ndarray:
    soxr = optional("soxr", "audio")
    stream, source_rate, parts = None, rate, [np.empty(0, np.float32)]
    read = 0  # frames so far
    for source_rate, block in blocks:
        if source_rate not in _RATES:
            raise MediaError(f"damaged: it claims {source_rate} samples a second")
        mono = _mono(block)
        if not np.isfinite(mono).all():
            second = (read + int(np.argmin(np.isfinite(mono)))) / source_rate
            raise MediaError(f"holds samples that are not numbers (NaN or infinite), the first at {second:.2f} s")
        read += len(mono)
        if source_rate == rate:
            parts.append(mono)
            continue
        stream = stream or soxr.ResampleStream(source_rate, rate, 1, dtype="float32", quality="HQ")
        parts.append(stream.resample_chunk(mono))
    if stream:
        parts.append(stream.resample_chunk(np.empty(0, np.float32), last=True))
    sound = np.concatenate(parts)
    if not len(sound):
        if read:
            raise MediaError(f"too short: {1000 * read / source_rate:.3f} ms are not one sample at {rate} Hz")
        raise MediaError("holds no sound: 0 samples can be read")
    return sound


def _mono(block: np.ndarray) -> np.ndarray:
    """(frames, channels) -> (frames,) float32."""
    with np.errstate(all="ignore"):  # what is not finite is refused by the caller
        return block.mean(axis=1, dtype=np.float32)


def _blocks(source: FileSource) -> Iterator[Block]:
    """The whole recording, piece by piece, by soundfile where it knows the format and by FFmpeg where it does not."""
    soundfile = optional("soundfile", "audio")
    if _is_mpeg(source):
        yield from _track_blocks(source)
        return
    home = None if isinstance(source, (str, PathLike)) else source.tell()
    try:
        file = soundfile.SoundFile(source)
    except (soundfile.LibsndfileError, TypeError):  # TypeError: a name in .raw, which tells nothing of what is in it
        if home is not None:
            source.seek(home)  # type: ignore[union-attr]
        yield from _track_blocks(source)
        return
    with file:
        _refuse_a_shortened_file(file)
        if file.format == "OGG":
            refuse_a_broken_ogg(source, 48_000 if file.subtype == "OPUS" else file.samplerate, home)
        left = file.frames
        while left > 0:
            block = file.read(min(_BLOCK, left), dtype="float32", always_2d=True)
            if not len(block):
                raise MediaError(_cut_short((file.frames - left) / file.samplerate, file.frames / file.samplerate))
            left -= len(block)
            yield file.samplerate, block


def _is_mpeg(source: FileSource) -> bool:
    """Whether soundfile would call its MPEG decoder, which writes its thoughts on a damaged file to the terminal."""
    if isinstance(source, (str, PathLike)) and Path(source).suffix.lower() == ".mp3":
        return True
    head = _part(source, 3)
    return head == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] >= 0xE0)


def _part(source: FileSource, count: int, skip: int = 0) -> bytes:
    """So many bytes of a file, which is left as it was."""
    if isinstance(source, (str, PathLike)):
        with Path(source).open("rb") as file:
            file.seek(skip)
            return file.read(count)
    home = source.tell()
    source.seek(home + skip)
    part: bytes = source.read(count)
    source.seek(home)
    return part


def _counts_its_frames(source: FileSource) -> bool:
    """Whether an mp3 says how many frames it has, and so how long it is."""
    head = _part(source, 10)
    tag = 10 + sum(byte << 7 * place for place, byte in enumerate(reversed(head[6:]))) if head[:3] == b"ID3" else 0
    first = _part(source, _FIRST_FRAME, tag)
    return any(mark in first for mark in _COUNTS)


def _refuse_a_shortened_file(file: Any) -> None:
    """Of a wav cut short soundfile takes what is there, and tells only its log that the header promises more."""
    found = _PROMISE.search(file.extra_info)
    if found and file.frames:
        promised, there = map(int, found.groups())
        read = file.frames / file.samplerate
        if promised < _UNKNOWN_SIZE and promised / there * read - read > _MISSING:
            raise MediaError(_cut_short(read, promised / there * read))


def _track_blocks(source: FileSource) -> Iterator[Block]:
    """The first sound track of what FFmpeg can read."""
    with opened(source, "a recording", "audio") as container:
        av = optional("av", "audio")
        if not container.streams.audio:
            raise MediaError("has no sound track")
        track = container.streams.audio[0]
        to_float = av.AudioResampler(format="fltp")  # of the samples alone; the mix and the rate are ours
        # Matroska says how long the longest of all streams is; where it does not, FFmpeg guesses, by stream.
        has_total_only = "matroska" in container.format.name and not track.duration and container.duration
        second, end_of_all = 0.0, 0.0
        for packet in container.demux(*([] if has_total_only else [track])):
            if has_total_only and packet.pts is not None:
                end_of_all = max(end_of_all, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream.index != track.index:
                continue
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                raise MediaError(f"damaged at {second:.2f} s") from None
            for frame in [*frames, *([] if packet.size else [None])]:
                for piece in to_float.resample(frame):
                    yield piece.sample_rate, piece.to_ndarray().T
                    second += piece.samples / piece.sample_rate
        whole = 0.0
        if has_total_only:
            whole, second = container.duration / 1_000_000, max(second, end_of_all)
        # Elsewhere the duration is a guess by the size of the file.
        elif track.duration and (
            "mp4" in container.format.name or (container.format.name == "mp3" and _counts_its_frames(source))
        ):
            whole = float(track.duration * track.time_base)
        if whole - second > _MISSING:
            raise MediaError(_cut_short(second, whole))


def _cut_short(read: float, whole: float) -> str:
    return f"cut short: {read:.2f} s of {whole:.2f} s can be read"
