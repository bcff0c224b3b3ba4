"""What a file is perceived as: what there is to perceive it, or what its name says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from epalm.errors import DataError, MediaError
from epalm.evaluation.inputs import media_of

EVERY = ("image", "video", "audio")


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("a.JPG", "image"),
        ("a.png", "image"),
        ("a.webp", "image"),
        ("a.mp4", "video"),
        ("a.mkv", "video"),
        ("a.webm", "video"),
        ("a.wav", "audio"),
        ("a.mp3", "audio"),
        ("a.flac", "audio"),
        ("a.ogg", "audio"),
        ("a.heic", "image"),
        ("a.mts", "video"),
        ("a.aiff", "audio"),
    ],
)
def test_the_name_tells(file: str, kind: str) -> None:
    assert media_of(file, EVERY) == {kind: Path(file)}


def test_what_perceives_one_thing_takes_any_name() -> None:
    for file in ("a.mp4", "a.jpg", "nothing-known", "a.txt"):
        assert media_of(file, ["audio"]) == {"audio": Path(file)}


def test_a_film_is_heard_where_nobody_watches() -> None:
    assert media_of("a.mp4", ["image", "audio"]) == {"audio": Path("a.mp4")}
    assert media_of("a.mp4", ["video", "audio"]) == {"video": Path("a.mp4")}


def test_a_film_without_pictures_is_a_sound(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    sound = tmp_path / "a.mp4"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), "fltp", "mono")
        frame.rate = 16000
        container.mux([*stream.encode(frame), *stream.encode()])
    assert media_of(sound, ["video", "audio"]) == {"audio": sound}


def test_an_animation_is_watched_where_nobody_looks_at_pictures(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (8, 8), shade) for shade in ("black", "white")]
    for name in ("a.gif", "a.webp", "a.png"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
        assert media_of(tmp_path / name, ["video", "audio"]) == {"video": tmp_path / name}
        assert media_of(tmp_path / name, EVERY) == {"image": tmp_path / name}
    pages[0].save(tmp_path / "still.png")
    with pytest.raises(DataError, match=r"still\.png: is image by its name; what is perceived is video or audio"):
        media_of(tmp_path / "still.png", ["video", "audio"])


def test_a_sound_goes_with_a_picture_or_a_film() -> None:
    both = {"image": Path("a.jpg"), "audio": Path("a.wav")}
    assert media_of("a.jpg", ["audio", "image"], audio="a.wav") == both
    assert media_of("no-name", ["audio", "image"], audio="no-name") == dict.fromkeys(both, Path("no-name"))
    film = {"video": Path("a.mp4"), "audio": Path("a.mp4")}
    assert media_of("a.mp4", ["audio", "video"], audio="a.mp4") == film
    assert media_of({"video": "a.mp4"}, EVERY, audio="a.mp4") == film
    assert media_of({"audio": "a.mp4", "video": "a.mp4"}, EVERY) == film


@pytest.mark.parametrize(
    ("given", "modalities", "audio", "said"),
    [
        ("a.txt", ["image", "audio"], None, "a.txt: cannot tell whether it is image or audio; give it a name"),
        ("a.wav", ["image", "video"], None, "a.wav: is audio by its name; what is perceived is image or video"),
        ("a.jpg", ["image"], "a.wav", "a.wav: is given as audio, but what is perceived is image"),
        ("a.wav", ["audio"], "b.wav", "b.wav: is a second sound beside a.wav"),
        ({"audio": "a.wav"}, EVERY, "b.wav", "b.wav: is a second sound beside a.wav"),
        ({"image": "a.jpg", "audio": "a.wav"}, ["image"], None, "a.wav: is given as audio, but what is perceived"),
        ({"sound": "a.wav"}, EVERY, None, "a.wav: 'sound' is none of image, video, audio"),
        ({}, EVERY, None, "there is nothing to perceive; give a file"),
    ],
)
def test_what_cannot_be_told_is_said(given: Any, modalities: list[str], audio: str | None, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        media_of(given, modalities, audio)
    assert "\n" not in str(caught.value)


def test_where_nothing_is_perceived_files_must_be_there(tmp_path: Path) -> None:
    there = tmp_path / "a.png"
    there.touch()
    assert media_of(there, []) == {"image": there}
    with pytest.raises(MediaError, match=r"b\.wav: no such file"):
        media_of({"image": there, "audio": tmp_path / "b.wav"}, [])
