"""Of several video tracks the one is read that a player shows."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numbered_clips import numbered, numbers, write
from PIL import Image

from epalm.errors import MediaError
from epalm.media import load_video

av = pytest.importorskip("av", reason="PyAV is not installed")

Disposition = av.stream.Disposition
STILL = [np.full((64, 64, 3), (255, 0, 0), np.uint8)]


def write_tracks(path: Path, *tracks, default=None) -> Path:
    """Each track is its pictures, at 25 a second; `default`: the number of the one that is so marked; none: all are."""
    with av.open(str(path), "w") as container:
        streams = []
        for number, pictures in enumerate(tracks):
            stream = container.add_stream("libx264", rate=25, options={"bf": "0", "g": "25"})
            stream.height, stream.width = pictures[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            stream.disposition = Disposition.default.value if default in (None, number) else 0
            streams.append(stream)
        packets = []
        for stream, pictures in zip(streams, tracks, strict=True):
            for index, picture in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(picture, "rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                packets += stream.encode(frame)
            packets += stream.encode()
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def film(first: int, count: int) -> list[np.ndarray]:
    return [numbered(number) for number in range(first, first + count)]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_a_still_before_the_film(tmp_path, name):
    path = write_tracks(tmp_path / name, STILL, film(0, 40))
    assert numbers(path, 4) == [5, 15, 25, 35]
    with path.open("rb") as file:
        assert numbers(file, 4) == [5, 15, 25, 35]


def test_a_cover_before_the_film(tmp_path):
    path = tmp_path / "a.mp4"
    cover = io.BytesIO()
    Image.fromarray(STILL[0]).save(cover, "PNG")
    with av.open(str(path), "w") as container:
        picture = container.add_stream("png", rate=25)
        picture.width, picture.height, picture.pix_fmt = 64, 64, "rgb24"
        picture.disposition = Disposition.attached_pic.value
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 32, "yuv420p"
        packet = av.Packet(cover.getvalue())
        packet.stream, packet.pts, packet.dts, packet.time_base = picture, 0, 0, Fraction(1, 25)
        container.mux(packet)
        for picture in film(0, 40):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    assert numbers(path, 4) == [5, 15, 25, 35]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_the_default_track(tmp_path, name):
    for default in (0, 1):
        path = write_tracks(tmp_path / name, film(0, 40), film(100, 40), default=default)
        assert numbers(path, 2) == [100 * default + 10, 100 * default + 30]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_the_longest_of_equals(tmp_path, name):
    path = write_tracks(tmp_path / name, film(100, 10), film(0, 40), film(200, 20))
    assert numbers(path, 4) == [5, 15, 25, 35]


def test_the_largest_of_those_as_long(tmp_path):
    small = [picture[::2, ::2] for picture in film(100, 40)]
    assert numbers(write_tracks(tmp_path / "a.mp4", small, film(0, 39)), 3) == [6, 19, 32]
    assert numbers(write_tracks(tmp_path / "b.mp4", film(0, 40), film(100, 40)), 1) == [20]


def test_a_codec_that_nobody_here_knows(tmp_path):
    path = write(tmp_path / "a.mp4", film(0, 3))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(MediaError, match="its video codec is not one that can be decoded here; convert it"):
        load_video(path, 2)
