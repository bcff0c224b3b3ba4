"""What FFmpeg reads: which track of a film, at which rate, with which gaps, and what stands around it."""

from __future__ import annotations

import io
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from sound_files import RATE, encoded, heard, heights, refusal, sine

from epalm.errors import MediaError
from epalm.media import load_audio

av = pytest.importorskip("av", reason="PyAV is not installed")
soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")
pytest.importorskip("soxr", reason="soxr is not installed")


def id3v2(size: int) -> bytes:
    """With a picture in it, in which frames seem to begin."""
    sizes = bytes(size >> 7 * place & 127 for place in (3, 2, 1, 0))
    return b"ID3\x04\x00\x00" + sizes + (b"\xff\xfb\x90\x64 picture" * size)[:size]


def ape(*, has_head: bool = True) -> bytes:
    items = (4000).to_bytes(4, "little") + bytes(4) + b"Cover\0" + b"x" * 4000
    size = (len(items) + 32).to_bytes(4, "little")
    head, foot = (b"APETAGEX" + bytes(4) + size + bytes(16) for _ in range(2))
    return (head if has_head else b"") + items + foot


LYRICS = b"LYRICSBEGIN" + b"IND00002" + b"LYR00030" + b"[00:01]some words of the song.\r\n" * 9 + b"000313LYRICS200"
ID3V1 = b"TAG" + b"a title".ljust(125, b"\0")
BEHIND = {
    "line end": b"\n",
    "line ends": b"\r\n\r\n",
    "a few zeros": bytes(10),
    "zeros": bytes(1000),
    "a block of zeros": bytes(4096),
    "ID3v1": ID3V1,
    "ID3v1 twice": ID3V1 + ID3V1,
    "ID3v2": id3v2(3000),
    "APEv2": ape(),
    "APEv2 without a head": ape(has_head=False),
    "Lyrics3": LYRICS,
    "Lyrics3 of old": b"LYRICSBEGIN" + b"words " * 40 + b"LYRICSEND",
    "all": ape() + id3v2(500) + LYRICS + ID3V1 + b"\n",
}
COUNTED, UNCOUNTED = {"id3v2_version": "3"}, {"write_xing": "0", "id3v2_version": "0"}
BARE = {"counted.mp3": ("mp3", COUNTED), "uncounted.mp3": ("mp3", UNCOUNTED), "a.aac": ("aac", {})}


def bare(path: Path, seconds: float = 2.0, rate: int = 44100, hertz: int = 440) -> Path:
    codec, options = BARE[path.name]
    return encoded(path, sine(rate, hertz, seconds), rate=rate, codec=codec, **options)


@pytest.mark.parametrize("name", BARE)
@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND)
def test_tags_and_blanks_behind_the_sound(tmp_path, name, behind):
    path = bare(tmp_path / name)
    expected, whole = load_audio(path, RATE), path.read_bytes()
    path.write_bytes(whole + behind)
    for source in (path, io.BytesIO(whole + behind)):
        sound = load_audio(source, RATE)
        # Where much stands behind a short mp3, FFmpeg leaves what fills up the last frame, a few milliseconds.
        np.testing.assert_allclose(sound[: len(expected)], expected, atol=1e-3)
        assert 0 <= len(sound) - len(expected) < 0.03 * RATE


@pytest.mark.parametrize("name", BARE)
def test_tags_and_blanks_do_not_hide_that_half_is_missing(tmp_path, name):
    path = bare(tmp_path / name, seconds=4.0)
    whole = path.read_bytes()
    half = len(whole) // 2 + 7
    noise = np.random.default_rng(0).bytes(len(whole) - half)
    damaged = [whole[:half] + rest for rest in (bytes(len(whole) - half), noise)]
    damaged.append(whole[:half] + bytes(500) + whole[half + 500 :])
    if name == "counted.mp3":
        damaged += [whole[:half], whole[: half - 200] + BEHIND["all"], id3v2(900) + id3v2(40) + whole[:half]]
    for data in damaged:
        path.write_bytes(data)
        message = refusal(path)
        assert message.startswith(("damaged at ", "cut short: "))


@pytest.mark.parametrize("name", BARE)
def test_joined_with_tags_between(tmp_path, name):
    path = bare(tmp_path / name)
    first = path.read_bytes()
    second = bare(path, hertz=1000).read_bytes()
    path.write_bytes(id3v2(700) + first + BEHIND["all"] + id3v2(30000) + second + ID3V1)
    assert heard(path, parts=2) == [440, 1000]


@pytest.mark.parametrize("rates", [(44100, 22050), (22050, 44100)])
@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp3", "mp3"), ("mp2", "mp2"), ("aac", "aac"), ("ts", "aac"), ("ts", "mp2")]
)
def test_a_rate_that_changes_on_the_way(tmp_path, suffix, codec, rates):
    options = UNCOUNTED if suffix == "mp3" else {}
    parts = [
        encoded(tmp_path / f"{rate}.{suffix}", sine(rate, hertz, 2.0), rate=rate, codec=codec, **options).read_bytes()
        for rate, hertz in zip(rates, (440, 1000), strict=True)
    ]
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"".join(parts))
    assert heard(path, parts=2) == [440, 1000]
    assert len(load_audio(path, RATE)) == pytest.approx(4 * RATE, abs=0.2 * RATE)


@pytest.mark.parametrize(("suffix", "codec"), [("mp3", "mp3"), ("mp2", "mp2"), ("aac", "aac")])
def test_channels_that_change_on_the_way(tmp_path, suffix, codec):
    options = UNCOUNTED if suffix == "mp3" else {}
    tone = sine(32000, 440, 2.0)
    mono = encoded(tmp_path / f"mono.{suffix}", tone, rate=32000, codec=codec, **options)
    pair = np.stack([sine(32000, 1000, 2.0)] * 2)
    stereo = encoded(tmp_path / f"stereo.{suffix}", pair, rate=32000, codec=codec, layout="stereo", **options)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(mono.read_bytes() + stereo.read_bytes())
    assert heard(path, parts=2) == [440, 1000]
    assert heights(path, 440, 1000) == pytest.approx([0.25, 0.25], abs=0.05)


def two_tracks(path: Path, *flags: str) -> Path:
    """A track for each flags: of 440 Hz, and of 1000 Hz."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("aac", rate=RATE, layout="mono") for _ in flags]
        for stream, flag in zip(streams, flags, strict=True):
            stream.disposition = sum((getattr(av.stream.Disposition, name) for name in flag.split()), start=0)
        for stream, hertz in zip(streams, (440, 1000), strict=False):
            samples = sine(RATE, hertz).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate = RATE
            container.mux([*stream.encode(frame), *stream.encode()])
    return path


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@pytest.mark.parametrize(
    ("flags", "hertz"),
    [(("", "default"), 1000), (("default", ""), 440), (("default", "default"), 440), (("", ""), 440)],
)
def test_the_default_track_is_heard(tmp_path, suffix, flags, hertz):
    assert heard(two_tracks(tmp_path / f"a.{suffix}", *flags)) == [hertz]


def test_a_commentary_is_heard_only_if_nothing_else_is_there(tmp_path):
    assert heard(two_tracks(tmp_path / "a.mkv", "comment", "")) == [1000]
    assert heard(two_tracks(tmp_path / "a.mkv", "default comment", "default")) == [1000]
    assert heard(two_tracks(tmp_path / "a.mkv", "comment")) == [440]


def test_a_track_that_nothing_here_decodes(tmp_path):
    path = tmp_path / "a.mov"
    encoded(path, sine(RATE, 440), sine(RATE, 1000), rate=RATE, codec="alac")
    data = path.read_bytes()
    first, second = data.index(b"alac"), data.rindex(b"stsd")
    path.write_bytes(data[:first] + b"zzzz" + data[first + 4 :])
    assert heard(path) == [1000]
    second = data.index(b"alac", second)
    path.write_bytes(data[:first] + b"zzzz" + data[first + 4 : second] + b"zzzz" + data[second + 4 :])
    assert refusal(path) == "its sound is coded in a way that cannot be read here"


def test_a_picture_is_no_track(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=RATE, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(sine(RATE, 440).astype(np.float32)[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        container.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")))
        container.mux([*cover.encode(), *sound.encode(frame), *sound.encode()])
    assert heard(path) == [440]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_gap_between_time_stamps_is_silence(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        for start, hertz in ((0, 440), (4, 1000)):
            frame = av.AudioFrame.from_ndarray(sine(RATE, hertz, 2.0).astype(np.float32)[None], "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, start * RATE, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    sound = load_audio(path, RATE)
    assert len(sound) == pytest.approx(6 * RATE, abs=0.2 * RATE)
    assert heard(path, parts=3)[::2] == [440, 1000]
    assert np.abs(sound[int(2.3 * RATE) : int(3.7 * RATE)]).max() == 0
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert refusal(path)


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp4", "alac"), ("avi", "mp3"), ("avi", "pcm_s16le"), ("wv", "wavpack")]
)
def test_cut_short(tmp_path, suffix, codec):
    path = tmp_path / f"a.{suffix}"
    options = {"movflags": "frag_keyframe+empty_moov", "frag_duration": "500000"} if suffix == "mp4" else {}
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 4 * RATE)
    encoded(path, noise, rate=RATE, codec=codec, **options)
    data = path.read_bytes()
    expected = load_audio(path, RATE)
    assert len(expected) == pytest.approx(4 * RATE, abs=0.2 * RATE)
    path.write_bytes(data + b"\n")
    np.testing.assert_array_equal(load_audio(path, RATE), expected)
    path.write_bytes(data[: len(data) // 2])
    assert refusal(path).startswith(("cut short: ", "damaged at "))


def test_a_pipe(tmp_path):
    data = bare(tmp_path / "uncounted.mp3", seconds=1.0).read_bytes()
    expected = load_audio(io.BytesIO(data), RATE)
    ends = os.pipe()
    with os.fdopen(ends[0], "rb") as reader:
        with os.fdopen(ends[1], "wb") as writer:
            writer.write(data)
        np.testing.assert_array_equal(load_audio(reader, RATE), expected)


@pytest.mark.parametrize("name", [*BARE, "a.wav", "a.ogg", "a.m4a"])
def test_a_file_object_is_read_from_where_it_stands_and_put_back(tmp_path, name):
    path = tmp_path / name
    if name in BARE:
        bare(path)
    elif name == "a.m4a":
        encoded(path, sine(RATE, 440), rate=RATE, codec="aac")
    else:
        soundfile.write(path, sine(RATE, 440), RATE)
    file = io.BytesIO(b"in front of it" + path.read_bytes())
    file.seek(14)
    np.testing.assert_array_equal(load_audio(file, RATE), load_audio(path, RATE))
    assert file.tell() == 14
    file = io.BytesIO(b"RIFF0000WAVEnothing")
    file.seek(4)
    with pytest.raises(MediaError):
        load_audio(file, RATE)
    assert file.tell() == 4
