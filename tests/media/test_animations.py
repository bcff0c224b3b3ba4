"""Animated pictures are clips: every frame is on screen for as long as its file says."""

from __future__ import annotations

import io
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numbered_clips import number_in, numbered, numbers
from PIL import Image, features

from epalm.errors import MediaError
from epalm.media import load_image, load_video

KINDS = [
    "a.gif",
    "a.png",
    "a.webp",
    pytest.param("a.avif", marks=pytest.mark.skipif(not features.check("avif"), reason="a Pillow without AVIF")),
]


def animate(path: Path, pictures: list[Image.Image], durations: int | list[int], **options) -> Path:
    """`durations` in milliseconds."""
    if path.suffix == ".webp":
        options["lossless"] = True
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations, **options)
    return path


def pages(count: int) -> list[Image.Image]:
    return [Image.fromarray(numbered(number)) for number in range(count)]


@pytest.mark.parametrize("name", KINDS)
def test_every_frame_by_its_duration(tmp_path, name):
    path = animate(tmp_path / name, pages(10), 500)
    assert numbers(path, 5) == [1, 3, 5, 7, 9]
    assert numbers(path, 20) == [number // 2 for number in range(20)]
    drawn = numbers(path, 5, rng=random.Random(0))
    assert [number // 2 for number in drawn] == list(range(5))
    path = animate(tmp_path / name, pages(4), [100, 500, 100, 1300])  # a moment each 0.25 s from 0.125 s on
    assert numbers(path, 8) == [1, 1, 2, 3, 3, 3, 3, 3]
    assert numbers(io.BytesIO(path.read_bytes()), 2) == [1, 3]
    with path.open("rb") as file:
        assert numbers(file, 2) == numbers(file, 2)
    assert number_in(np.asarray(load_image(path))) == 0


@pytest.mark.parametrize("name", KINDS[:3])
def test_as_fast_as_one_can_is_a_tenth_of_a_second(tmp_path, name):
    """For browsers; else a film of ten frames would last a hundredth of a second beside one that stays."""
    path = animate(tmp_path / name, pages(3), [1 if name == "a.webp" else 0, 300, 200])
    assert numbers(path, 6) == [0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.gif"])
def test_frames_that_are_drawn_over_others_and_clear_ones(tmp_path, name):
    pictures = []
    for index in range(3):
        picture = np.zeros((32, 48, 4), np.uint8)
        picture[:, 16 * index : 16 * index + 16] = (255, 0, 0, 253 if name == "a.webp" else 255)
        pictures.append(Image.fromarray(picture))
    disposal = {"a.gif": {"disposal": 2}, "a.png": {"disposal": 1}}.get(name, {})
    frames = load_video(animate(tmp_path / name, pictures, 100, **disposal), 3)
    assert frames.shape == (3, 32, 48, 3)
    for index, frame in enumerate(frames):
        columns = frame[16, 8::16].astype(int)
        expected = np.full((3, 3), 255)
        expected[index] = (255, 0, 0)
        assert np.abs(columns - expected).max() <= 2


def test_the_picture_for_viewers_that_cannot_animate_is_no_frame(tmp_path):
    path = animate(tmp_path / "a.png", pages(5), 100, default_image=True)
    assert numbers(path, 4) == [1, 2, 3, 4]


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.jpg", "a.gif"])
def test_a_picture_that_does_not_move(tmp_path, name):
    Image.fromarray(numbered(7)).save(tmp_path / name, quality=95)
    assert numbers(tmp_path / name, 3) == [7, 7, 7]


@pytest.mark.parametrize("name", KINDS[1:])
def test_cut_short(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (6, 48, 64, 3), np.uint8)
    path = animate(tmp_path / name, [Image.fromarray(picture) for picture in noise], 100)
    data = path.read_bytes()
    for share in (0.3, 0.6, 0.95):
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(MediaError) as caught:
            load_video(path, 3)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def test_too_large(tmp_path, monkeypatch):
    path = animate(tmp_path / "a.png", pages(2), 100)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(MediaError, match="too large to be decoded safely"):
        load_video(path, 1)


def test_takes_no_extra(tmp_path):
    path = animate(tmp_path / "a.webp", pages(2), 100)
    code = (
        "import sys; sys.modules['av'] = None\n"
        "from epalm.media import load_video\n"
        "print(load_video(sys.argv[1], 2).shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "(2, 32, 96, 3)\n"
