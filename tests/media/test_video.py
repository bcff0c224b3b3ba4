"""Clips as people have them become frames at the right moments, decoding little, or one line."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numbered_clips import BITS, SIDE, numbered, numbers, write
from PIL import Image

from epalm.errors import MediaError
from epalm.media import load_audio, load_video
from epalm.media.files import binary
from epalm.media.mp4 import refuse_a_cut_fragment

av = pytest.importorskip("av", reason="PyAV is not installed")

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


def refusal(source, frames: int = 4) -> str:
    with pytest.raises(MediaError) as caught:
        load_video(source, frames)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.__suppress_context__
    return message


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """40 frames at 25 a second, one key frame."""
    return write(tmp_path_factory.mktemp("clip") / "clip.mp4", map(numbered, range(40)))


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    """Two minutes at 25 frames a second, a key frame every two seconds, and noise that makes it large."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    noise = np.random.default_rng(0).integers(0, 256, (8, 16, BITS // 2 * SIDE, 3), np.uint8)
    pictures = (np.concatenate([numbered(number), noise[number % 8]]) for number in range(3000))
    return write(path, pictures, options={"g": "50", "sc_threshold": "0", "preset": "ultrafast"})


def test_the_middle_of_equal_intervals(clip):
    assert numbers(clip, 4) == [5, 15, 25, 35]
    assert numbers(clip, 1) == [20]
    assert numbers(clip, 8) == [2, 7, 12, 17, 22, 27, 32, 37]
    assert numbers(clip, 40) == list(range(40))
    frames = load_video(clip, 4)
    assert frames.shape == (4, 2 * SIDE, BITS // 2 * SIDE, 3)
    assert frames.dtype == np.uint8


def test_the_rng_draws_one_moment_in_each_interval(clip):
    drawn = [numbers(clip, 4, rng=random.Random(seed)) for seed in range(12)]
    for row in drawn:
        assert [number // 10 for number in row] == [0, 1, 2, 3]
    assert all(len(set(column)) > 3 for column in zip(*drawn, strict=True))
    assert numbers(clip, 4, rng=random.Random(3)) == drawn[3]


def test_fewer_frames_than_asked_repeats_them(tmp_path):
    path = write(tmp_path / "short.mp4", map(numbered, range(3)))
    assert numbers(path, 9) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert numbers(write(tmp_path / "one.mp4", [numbered(7)]), 3) == [7, 7, 7]


def test_path_text_and_file_object_are_the_same(clip):
    with clip.open("rb") as file:
        for source in (str(clip), file, io.BytesIO(clip.read_bytes())):
            assert numbers(source, 4) == [5, 15, 25, 35]


def test_a_pipe_and_a_file_that_begins_amid_another(clip):
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *arguments):
            raise OSError("a pipe")

    assert numbers(Pipe(clip.read_bytes()), 4) == [5, 15, 25, 35]
    inside = io.BytesIO(b"something else" + clip.read_bytes())
    inside.seek(14)
    assert numbers(inside, 4) == [5, 15, 25, 35]
    assert inside.tell() == 14


def test_a_name_like_an_address(clip, tmp_path):
    path = tmp_path / "http:clip %03d.mp4"
    path.write_bytes(clip.read_bytes())
    assert numbers(path, 1) == [20]


def test_a_long_film_is_not_read_through(film, decoded):
    assert numbers(film, 6) == [250, 750, 1250, 1750, 2250, 2750]
    # 3,000 frames in groups of 50; each moment lies at the head of one, and a decoder is some frames ahead.
    assert len(decoded) < 6 * 10
    decoded.clear()
    drawn = numbers(film, 6, rng=random.Random(1))
    assert [number // 500 for number in drawn] == list(range(6))
    assert len(decoded) < 6 * 60


def test_little_of_a_long_file_is_read(film):
    class Counted(io.BytesIO):
        total = 0

        def read(self, size=-1):
            data = super().read(size)
            self.total += len(data)
            return data

    source = Counted(film.read_bytes())
    assert numbers(source, 2) == [750, 2250]
    assert film.stat().st_size > 3_000_000
    assert source.total < 600_000


def test_short_gaps_are_decoded_once(film, clip, decoded):
    assert numbers(clip, 20) == list(range(1, 40, 2))
    assert len(decoded) <= 40
    decoded.clear()
    numbers(film, 200)  # a moment each 0.6 s, where key frames come each 2 s
    assert len(decoded) <= 3000


def test_key_frames_far_apart_cost_no_more_than_the_clip_twice(tmp_path, decoded):
    options = {"g": "10000", "sc_threshold": "0", "preset": "ultrafast"}
    path = write(tmp_path / "one group.mp4", map(numbered, range(1000)), options=options)
    assert numbers(path, 10) == list(range(50, 1000, 100))
    assert len(decoded) <= 2000


@pytest.mark.parametrize(
    ("name", "codec", "options", "off"),  # `off`: by how many frames the container's own clock is wrong
    [
        ("a.mkv", "libx264", {"g": "50", "bf": "3"}, 0),
        ("a.ts", "libx264", {"g": "50", "bf": "3"}, 0),
        ("a.avi", "mpeg4", {"g": "50", "bf": "2"}, 1),
        ("a.webm", "libvpx-vp9", {"g": "50", "cpu-used": "8", "deadline": "realtime"}, 0),
        ("a.mov", "libx264", {"g": "50", "bf": "3", "x264-params": "open-gop=1"}, 0),
        ("a.flv", "libx264", {"g": "50"}, 0),
        ("a.mpg", "mpeg2video", {"g": "15", "bf": "2"}, 12),
        ("a.h264", "libx264", {"g": "50", "bf": "2"}, 0),
        ("fragments.mp4", "libx264", {"g": "50"}, 0),
    ],
)
def test_every_container_gives_the_same_frames(tmp_path, name, codec, options, off):
    head = {"movflags": "frag_keyframe+empty_moov"} if "fragments" in name else {}
    path = write(tmp_path / name, map(numbered, range(300)), codec=codec, options=options, head=head)
    np.testing.assert_allclose(numbers(path, 6), [25, 75, 125, 175, 225, 275], atol=off)
    np.testing.assert_allclose(numbers(path, 2), [75, 225], atol=off)
    for seed in range(3):
        rng = random.Random(seed)
        expected = [int(100 * (i + rng.random())) for i in range(3)]
        np.testing.assert_allclose(numbers(path, 3, rng=random.Random(seed)), expected, atol=off)


def test_a_variable_frame_rate_goes_by_the_time_stamps(tmp_path):
    stamps = [0, 100, 200, 300, 400, 2000, 3600, 3700]  # the fifth stays for 1.6 s, the sixth as well
    path = write(tmp_path / "a.mkv", map(numbered, range(8)), stamps=stamps, options={"bf": "0"})
    # It lasts about 3.8 s: a moment each 0.95 s from 0.475 s on.
    assert numbers(path, 4) == [4, 4, 5, 5]


def test_stills_that_stay_for_minutes(tmp_path, decoded):
    stamps = [60_000 * index for index in range(12)] + [720_000 + 40 * index for index in range(500)]
    options = {"bf": "0", "g": "6", "preset": "ultrafast"}
    path = write(tmp_path / "a.mkv", map(numbered, range(512)), stamps=stamps, options=options)
    with av.open(str(path)) as container:
        assert container.duration == pytest.approx(740_000_000, abs=100_000)
    # A moment each 46.25 s from 23.125 s on: the last is 716.875 s.
    assert numbers(path, 16) == [int((46.25 * index + 23.125) / 60) for index in range(16)]
    assert len(decoded) <= 12 * 6


def test_a_film_without_a_duration(tmp_path):
    pictures = map(numbered, range(100))
    path = write(tmp_path / "live.mkv", pictures, options={"g": "25"}, head={"live": "1"})
    with av.open(str(path)) as container:
        assert container.duration is None
        assert container.streams.video[0].duration is None
    assert numbers(path, 4) == [12, 37, 62, 87]


def test_animated_gif(tmp_path):
    pages = [Image.fromarray(numbered(number)) for number in range(10)]
    pages[0].save(tmp_path / "a.gif", save_all=True, append_images=pages[1:], duration=500, loop=0)
    assert numbers(tmp_path / "a.gif", 5) == [1, 3, 5, 7, 9]
    assert numbers(tmp_path / "a.gif", 20)[-2:] == [9, 9]
    assert numbers(tmp_path / "a.gif", 2) == [2, 7]  # far apart, and each page holds but what changed


def quarters() -> np.ndarray:
    """Red, green / blue, white: no two turns of it agree. (32, 48, 3)"""
    colours = np.array([[(255, 0, 0), (0, 255, 0)], [(0, 0, 255), (255, 255, 255)]], np.uint8)
    return colours.repeat(16, axis=0).repeat(24, axis=1)


def corners(frame: np.ndarray) -> np.ndarray:
    """The colours of the four quarters, each rounded to black or full."""
    height, width, _ = frame.shape
    return (frame[:: height - 1, :: width - 1] > 128).astype(np.uint8) * 255


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((1, 0, 0, 1), lambda x: x),
        ((0, 1, -1, 0), lambda x: np.rot90(x, -1)),  # a telephone held upright
        ((-1, 0, 0, -1), lambda x: np.rot90(x, 2)),
        ((0, -1, 1, 0), lambda x: np.rot90(x, 1)),
        ((-1, 0, 0, 1), lambda x: x[:, ::-1]),  # one that looks at its owner
        ((0, 1, 1, 0), lambda x: x.transpose(1, 0, 2)),
    ],
)
def test_the_display_matrix_is_applied(tmp_path, matrix, shown):
    path = write(tmp_path / "a.mp4", [quarters()] * 3)
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40  # version, times, ids, layer and volume come first
    assert struct.unpack_from(">9i", data, place) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    a, b, c, d = (65536 * entry for entry in matrix)
    struct.pack_into(">9i", data, place, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    frame = load_video(path, 1)[0]
    expected = shown(quarters())
    assert frame.shape == expected.shape
    np.testing.assert_array_equal(corners(frame), corners(expected))


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [
        ("libx264", "yuv420p"),
        ("libx264", "yuv444p"),
        ("libx264", "yuv422p10le"),
        ("libx264", "yuv420p10le"),
        ("mjpeg", "yuvj420p"),
        ("ffv1", "gray"),
        ("ffv1", "gray16le"),
        ("ffv1", "yuv444p16le"),
        ("ffv1", "bgra"),
        ("qtrle", "rgb24"),
    ],
)
def test_pixel_formats_become_rgb(tmp_path, codec, pix_fmt):
    path = write(tmp_path / ("a.mov" if codec == "qtrle" else "a.mkv"), [quarters()] * 2, codec=codec, pix_fmt=pix_fmt)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.pix_fmt == pix_fmt
    frame = load_video(path, 1)[0]
    assert frame.shape == (32, 48, 3)
    centres = frame[8::16, 12::24].astype(int)
    expected = quarters()[8::16, 12::24].astype(int)
    if "gray" in pix_fmt:
        expected = (expected @ [0.299, 0.587, 0.114])[..., None].repeat(3, -1)
    assert np.abs(centres - expected).max() <= 6


def test_odd_sizes(tmp_path):
    picture = np.pad(quarters(), ((0, 1), (0, 3), (0, 0)), mode="edge")
    path = write(tmp_path / "a.mkv", [picture] * 2, pix_fmt="yuv444p")
    frame = load_video(path, 1)[0]
    assert frame.shape == (33, 51, 3)
    np.testing.assert_array_equal(corners(frame), corners(quarters()))


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m"])
def test_the_colours_are_those_of_the_files_own_matrix(tmp_path, matrix):
    av_matrix = {"bt709": 1, "smpte170m": 5}[matrix]
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv444p"
        stream.codec_context.colorspace = av_matrix
        frame = av.VideoFrame.from_ndarray(quarters(), "rgb24")
        frame = frame.reformat(format="yuv444p", dst_colorspace=av_matrix)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    frame = load_video(path, 1)[0]
    assert np.abs(frame[8::16, 12::24].astype(int) - quarters()[8::16, 12::24]).max() <= 6


def sound_only(path: Path, codec: str = "aac") -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_a_sound_is_no_video(tmp_path):
    path = sound_only(tmp_path / "a.mp4")
    assert refusal(path) == f"{path}: has no video stream; is it a sound?"


def test_the_cover_of_a_record_is_no_video(tmp_path):
    path = sound_only(tmp_path / "a.mp3", "libmp3lame")
    cover = io.BytesIO()
    Image.fromarray(quarters()).save(cover, "PNG")
    picture = b"\0image/png\0\x03\0" + cover.getvalue()
    tag = b"APIC" + struct.pack(">IH", len(picture), 0) + picture
    size = bytes(len(tag) >> shift & 127 for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\x03\0\0" + size + tag + path.read_bytes())
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
    assert refusal(path) == f"{path}: has no video stream; is it a sound?"
    assert len(load_audio(path, 16000)) == pytest.approx(16000, abs=1200)


def test_what_is_no_video(tmp_path):
    assert refusal(tmp_path / "none.mp4") == f"{tmp_path / 'none.mp4'}: no such file"
    assert refusal(tmp_path) == f"{tmp_path}: is a directory, not a video"
    (tmp_path / "empty.mp4").write_bytes(b"")
    assert refusal(tmp_path / "empty.mp4") == f"{tmp_path / 'empty.mp4'}: the file is empty"
    for name in ("text.mp4", "text.avi", "text.txt"):
        (tmp_path / name).write_text("This is no clip.\n" * 50)
        assert "not a video in a format that can be read here" in refusal(tmp_path / name)
    (tmp_path / "noise.mp4").write_bytes(random.Random(0).randbytes(5000))
    assert str(tmp_path / "noise.mp4") in refusal(tmp_path / "noise.mp4")


def test_cut_short(film, clip, tmp_path):
    data = clip.read_bytes()  # what says where the frames lie comes last
    (tmp_path / "a.mp4").write_bytes(data[: len(data) // 2])
    assert "damaged from its start" in refusal(tmp_path / "a.mp4")
    pictures = [numbered(number) for number in range(300)]
    for name, head in (("b.mp4", {"movflags": "faststart"}), ("b.mkv", {}), ("b.avi", {})):
        path = write(tmp_path / name, pictures, codec="mpeg4", options={"g": "25"}, head=head)
        assert numbers(path, 2) == [75, 225]
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        message = refusal(path)
        assert message.startswith(f"{path}: ")
        assert "cut short" in message or "damaged at" in message, message


FRAGMENTED = {"codec": "mpeg4", "options": {"g": "25"}, "head": {"movflags": "frag_keyframe+empty_moov"}}


def boxes(data: bytes) -> list[tuple[bytes, int]]:
    """Kind and place of every box of an MP4, in their order."""
    found, at = [], 0
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        found.append((kind, at))
        at += size
    return found


def test_a_fragmented_file_cut_short(tmp_path):
    whole = write(tmp_path / "a.mp4", map(numbered, range(300)), **FRAGMENTED)
    assert numbers(whole, 4) == [37, 112, 187, 262]
    data, cut = whole.read_bytes(), tmp_path / "cut.mp4"
    assert numbers(io.BytesIO(data), 4) == [37, 112, 187, 262]
    moofs, mdats = ([at for found, at in boxes(data) if found == kind] for kind in (b"moof", b"mdat"))
    assert len(moofs) == len(mdats) == 12
    for end in (moofs[6] + 5, moofs[6] + 20, mdats[6], mdats[6] + 4, mdats[6] + 200, mdats[0] + 30, mdats[-1] + 300):
        cut.write_bytes(data[:end])
        assert refusal(cut) == f"{cut}: cut short: its last fragment is not whole"
        assert "cut short: its last fragment is not whole" in refusal(io.BytesIO(data[:end]))
    # between two fragments it is a whole file of six seconds; the index at the end is nothing to be seen
    cut.write_bytes(data[: moofs[6]])
    assert numbers(cut, 4) == [18, 56, 93, 131]
    cut.write_bytes(data[:-20])
    assert numbers(cut, 4) == [37, 112, 187, 262]


@pytest.mark.parametrize("change", ["large", "last", "junk"])
def test_boxes_of_a_whole_fragmented_file(tmp_path, change):
    """Sizes of 64 bits, a last box that goes to the end of the file, and what some program has put behind it."""
    path = write(tmp_path / "a.mp4", map(numbered, range(50)), **FRAGMENTED)
    data = path.read_bytes()
    mdat, index = boxes(data)[-2:]
    assert (mdat[0], index[0]) == (b"mdat", b"mfra")
    head, body = data[: mdat[1]], data[mdat[1] + 8 : index[1]]
    tail = {
        "large": struct.pack(">I4sQ", 1, b"mdat", len(body) + 16) + body,
        "last": struct.pack(">I4s", 0, b"mdat") + body,
        "junk": data[mdat[1] :] + b"\xff" * 50,
    }[change]
    path.write_bytes(head + tail)
    if change == "large":  # its frames lie eight bytes off
        with binary(path) as file:
            refuse_a_cut_fragment(file)
        path.write_bytes(head + tail[:-60])
        assert "its last fragment is not whole" in refusal(path)
    else:
        assert numbers(path, 2) == [12, 37]


class Early(random.Random):
    def random(self):
        return 0.1001


@pytest.mark.parametrize("fill", ["zeros", "noise"])
@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.mp4", "mpeg4")])
def test_the_last_half_is_damaged(tmp_path, name, codec, fill):
    path = write(tmp_path / name, map(numbered, range(400)), codec=codec, options={"g": "25"})
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    there, end = places[200], places[-1]
    data[there:end] = bytes(end - there) if fill == "zeros" else random.Random(0).randbytes(end - there)
    path.write_bytes(data)
    message = refusal(path)
    assert message.startswith(f"{path}: ")
    assert ("damaged at " in message) or ("cut short: " in message), message
    second = float(message.split("damaged at ")[-1].split("cut short: ")[-1].split(" s")[0])
    assert 7.9 <= second <= 16
    if name == "a.mp4":  # which knows its length without its last half
        assert numbers(path, 1, rng=Early()) == [40]


@pytest.mark.parametrize("fill", ["zeros", "noise"])
@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.webm", "libvpx", "yuv420p"),
        ("b.webm", "libvpx-vp9", "yuv420p"),
        ("a.avi", "mjpeg", "yuvj420p"),
    ],
)
def test_the_last_half_is_damaged_in_other_formats(tmp_path, name, codec, pix_fmt, fill):
    path = write(tmp_path / name, map(numbered, range(200)), codec=codec, pix_fmt=pix_fmt, options={"g": "25"})
    data = bytearray(path.read_bytes())
    there, end = len(data) // 2, len(data) - 400
    data[there:end] = bytes(end - there) if fill == "zeros" else random.Random(0).randbytes(end - there)
    path.write_bytes(data)
    message = refusal(path)
    assert message.startswith(f"{path}: ")
    assert ("damaged at " in message) or ("cut short: " in message), message


@pytest.mark.parametrize("fill", ["zeros", "noise"])
@pytest.mark.parametrize(("name", "codec"), [("a.mpg", "mpeg2video"), ("a.ts", "libx264")])
def test_streams_that_do_not_say_how_long_they_are(tmp_path, name, codec, fill):
    """Of a damaged half nothing is shown: each frame is one that is there, whole and in its order."""
    path = write(tmp_path / name, map(numbered, range(200)), codec=codec, options={"g": "25"})
    data = bytearray(path.read_bytes())
    there, end = len(data) // 2, len(data) - 400
    data[there:end] = bytes(end - there) if fill == "zeros" else random.Random(0).randbytes(end - there)
    path.write_bytes(data)
    shown = numbers(path, 8)
    assert shown == sorted(shown)
    assert len(set(shown)) > 3
    assert max(shown) <= 100


@pytest.mark.parametrize(
    ("name", "codec"), [("a.webm", "libvpx"), ("a.avi", "mpeg4"), ("a.mkv", "libx264"), ("a.mp4", "libx264")]
)
def test_damage_that_no_moment_lies_in(tmp_path, name, codec):
    """Of the first second, and of the third, which is near enough to the second moment to be decoded on the way."""
    whole = write(tmp_path / name, map(numbered, range(200)), codec=codec, options={"g": "25"}).read_bytes()
    with av.open(str(tmp_path / name)) as container:
        places = [(packet.pos, packet.pos + packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(whole)
    for begin, end in places[:5] + places[55:60]:
        data[begin + 8 : end] = b"\xff" * (end - begin - 8)
    (tmp_path / name).write_bytes(data)
    assert numbers(tmp_path / name, 4) == [25, 75, 125, 175]


def test_a_length_that_is_too_short_in_the_head(tmp_path):
    path = write(tmp_path / "a.mp4", map(numbered, range(100)))
    data = bytearray(path.read_bytes())
    for box, place in ((b"mvhd", 16), (b"tkhd", 20), (b"mdhd", 16)):
        at = data.index(box) + 4 + place
        struct.pack_into(">I", data, at, struct.unpack_from(">I", data, at)[0] // 2)
    path.write_bytes(data)
    with av.open(str(path)) as container:
        assert container.duration < 2_100_000
    assert numbers(path, 4) == [12, 37, 62, 87]


def test_time_stamps_that_do_not_begin_at_0(tmp_path):
    """Matroska counts the length of such a film from 0."""
    stamps = [60_000 + 40 * index for index in range(100)]
    path = write(tmp_path / "a.mkv", map(numbered, range(100)), stamps=stamps, options={"g": "25", "bf": "0"})
    with av.open(str(path)) as container:
        assert container.duration > 60_000_000
    np.testing.assert_allclose(numbers(path, 4), [12, 37, 62, 87], atol=1)


def test_what_an_edit_list_cuts_off_is_not_seen(tmp_path):
    path = write(tmp_path / "a.mp4", map(numbered, range(100)), options={"g": "50", "bf": "0"})
    data = bytearray(path.read_bytes())
    at = data.index(b"elst")
    length, begin = struct.unpack_from(">Ii", data, at + 12)
    with av.open(str(path)) as container:
        second = container.streams.video[0].time_base.denominator
    struct.pack_into(">Ii", data, at + 12, length // 2, begin + second)  # from the 25th to the 75th
    path.write_bytes(data)
    np.testing.assert_allclose(numbers(path, 5), [30, 40, 50, 60, 70], atol=1)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm"])
def test_one_frame_is_a_clip(tmp_path, name):
    path = write(tmp_path / name, [numbered(5)], codec="libvpx" if name == "a.webm" else "libx264")
    assert numbers(path, 3) == [5, 5, 5]


def test_a_clip_without_a_frame(tmp_path, clip):
    """A header and nothing behind it."""
    data = clip.read_bytes()
    for box in (b"stsz", b"stco", b"stsc", b"stts", b"ctts", b"stss"):
        place = data.find(box)
        if place > 0:  # the count of entries
            at = place + (12 if box == b"stsz" else 8)
            data = data[:at] + bytes(4) + data[at + 4 :]
    (tmp_path / "a.mp4").write_bytes(data)
    assert refusal(tmp_path / "a.mp4").startswith(f"{tmp_path / 'a.mp4'}: ")


def test_without_the_extra_one_line_names_it(clip):
    code = (
        "import sys; sys.modules['av'] = None\n"
        "from epalm.errors import MediaError\n"
        "from epalm.media import load_video\n"
        "try:\n    load_video(sys.argv[1], 4)\n"
        "except MediaError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(clip)], capture_output=True, text=True, check=True)
    assert done.stdout == f'{clip}: reading it takes the package av: pip install "epalm[video]"\n'
    assert done.stderr == ""


@pytest.mark.parametrize("name", ["-YS5uKWoB6g_30", "6BJ455B1aAs_0", "EzWEO2WD_MM_70", "FDwK7T1JO_0_160"])
def test_real_clips_match_a_decoder_that_reads_everything(name):
    path = SHARED / "audiocaps-mini" / "media" / f"{name}.mp4"
    if not path.exists():
        pytest.skip("the shared clips are not here")
    frames = load_video(path, 3)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        start, length = stream.start_time * stream.time_base, stream.duration * stream.time_base
        moments = [start + length * Fraction(2 * i + 1, 6) for i in range(3)]
        expected: list[np.ndarray | None] = [None] * 3
        for frame in container.decode(stream):
            for i, moment in enumerate(moments):
                if frame.pts * stream.time_base <= moment < (frame.pts + frame.duration) * stream.time_base:
                    expected[i] = frame.to_ndarray(format="rgb24")
    np.testing.assert_array_equal(frames, np.stack(expected))
