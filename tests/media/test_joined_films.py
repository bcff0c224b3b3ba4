"""Films put together from several, whose time stamps start over or leap: all of them is seen, as a player shows it."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numbered_clips import numbered, numbers, write

av = pytest.importorskip("av", reason="PyAV is not installed")

FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


def part(path: Path, first: int, count: int = 100, at: int = 0, **options) -> bytes:
    """The frames from number `first` on, at 25 a second; `at`: seconds at which their time stamps begin."""
    stamps = [1000 * at + 40 * index for index in range(count)] if at else None
    return write(path, map(numbered, range(first, first + count)), stamps=stamps, **options).read_bytes()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.ts", {"options": {"g": "25", "bf": "2"}}),
        ("a.mpg", {"codec": "mpeg2video", "options": {"g": "15", "bf": "2"}}),
        ("a.mkv", {"options": {"g": "25", "bf": "2"}}),
        ("a.webm", {"codec": "libvpx", "options": {"g": "25"}}),
        ("live.mkv", {"options": {"g": "25"}, "head": {"live": "1"}}),
        ("a.avi", {"codec": "mpeg4", "options": {"g": "25"}}),
        ("a.h264", {"options": {"g": "25"}}),
        ("a.mjpeg", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    ],
)
def test_two_files_in_one(tmp_path, name, options):
    path = tmp_path / name
    first, second = part(path, 0, **options), part(path, 100, **options)
    path.write_bytes(first)
    assert numbers(path, 4) == [12, 37, 62, 87]
    path.write_bytes(first + second)
    assert numbers(path, 8) == [12, 37, 62, 87, 112, 137, 162, 187]
    assert numbers(path, 2) == [50, 150]
    assert numbers(io.BytesIO(first + second), 40) == list(range(2, 200, 5))


def test_two_broadcasts_whose_tracks_have_other_numbers(tmp_path):
    options = {"options": {"g": "25"}}
    path = tmp_path / "a.ts"
    second = part(path, 100, head={"mpegts_start_pid": "512"}, **options)
    path.write_bytes(part(path, 0, **options) + second)
    assert numbers(path, 8) == [12, 37, 62, 87, 112, 137, 162, 187]


def test_two_fragmented_files_in_one(tmp_path):
    options = {"options": {"g": "25"}, "head": FRAGMENTS}
    path = tmp_path / "a.mp4"
    path.write_bytes(part(path, 0, **options) + part(path, 100, **options))
    # FFmpeg leaves out the first fragment of the second
    assert numbers(path, 7) == [12, 37, 62, 87, 137, 162, 187]


def test_of_whole_mp4s_the_first_is_played(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(part(path, 0) + part(path, 100))
    assert numbers(path, 4) == [12, 37, 62, 87]


def test_parts_whose_time_stamps_leap(tmp_path):
    """As recordings of a broadcast do where a part is cut out; they neither lengthen the film nor hide a part of it."""
    options = {"options": {"g": "25", "bf": "2"}}
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(part(path, 100 * index, at=at, **options) for index, at in enumerate((50, 500, 2, 30))))
    np.testing.assert_allclose(numbers(path, 8), range(25, 400, 50), atol=1)
    np.testing.assert_allclose(numbers(path, 80), range(2, 400, 5), atol=1)


def test_a_part_whose_time_stamps_are_those_of_a_clock(tmp_path):
    """Decades behind the first part's: the seconds between are not counted one by one."""
    path = tmp_path / "a.mkv"
    path.write_bytes(part(path, 0) + part(path, 100, at=1 << 37))
    assert numbers(path, 8) == [12, 37, 62, 87, 112, 137, 162, 187]


def test_a_picture_that_stays_while_the_sound_goes_on_is_no_leap(tmp_path):
    path = tmp_path / "a.ts"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"g": "1", "bf": "0"})
        video.width, video.height, video.pix_fmt = 96, 32, "yuv420p"
        sound = container.add_stream("mp2", rate=16000, layout="mono")
        packets = []
        for number, second in enumerate((0, 40, 80)):
            frame = av.VideoFrame.from_ndarray(numbered(number), "rgb24")
            frame.pts, frame.time_base = 25 * second, Fraction(1, 25)
            packets += video.encode(frame)
        packets += video.encode()
        for second in range(120):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.int16), format="s16", layout="mono")
            frame.rate, frame.pts = 16000, 16000 * second
            packets += sound.encode(frame)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    assert numbers(path, 8)[:7] == [0, 0, 0, 0, 1, 1, 1]


def test_a_part_that_does_not_begin_with_a_key_frame(tmp_path):
    """Cut anywhere, as a recorder does: of its second part what cannot be decoded is left out."""
    path = tmp_path / "a.ts"
    options = {"options": {"g": "25", "bf": "0", "sc_threshold": "0"}}
    first, second = part(path, 0, at=100, **options), part(path, 100, at=2, **options)
    packets = [second[at : at + 188] for at in range(0, len(second), 188)]
    starts = [at for at, packet in enumerate(packets) if packet[1] & 0x40 and packet[1] & 0x1F == 1 and packet[2] == 0]
    path.write_bytes(first + b"".join(packets[:3] + packets[starts[10] :]))
    np.testing.assert_allclose(numbers(path, 7), [12, 37, 62, 87, 137, 162, 187], atol=1)


def test_of_a_long_film_of_several_parts_little_is_decoded(tmp_path, decoded):
    options = {"options": {"g": "50", "sc_threshold": "0", "preset": "ultrafast"}}
    path = tmp_path / "a.ts"
    path.write_bytes(part(path, 0, 500, **options) + part(path, 500, 500, **options))
    assert numbers(path, 4) == [125, 375, 625, 875]
    assert len(decoded) < 4 * 35
