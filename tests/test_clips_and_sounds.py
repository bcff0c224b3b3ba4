"""Whole runs on files of clips and of sounds: the same commands as for pictures, from files to answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_watchers
import yaml

PITCHES = {"low": 200, "middle": 700, "high": 1800, "shrill": 4000}
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 220), "white": (250, 250, 250)}


def _save_clip(path: Path, colour: tuple[int, int, int]) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 48, 40, "yuv420p"
        picture = np.full((40, 48, 3), colour, dtype=np.uint8)
        for _ in range(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _save_sound(path: Path, pitch: int) -> None:
    soundfile = pytest.importorskip("soundfile")
    time = np.arange(22_050) / 44_100
    both = np.stack([np.sin(2 * np.pi * pitch * time), 0.5 * np.sin(2 * np.pi * pitch * time)], axis=1)
    soundfile.write(path, 0.4 * both, 44_100)


@pytest.fixture
def world(tmp_path: Path, backbones: Path, monkeypatch: pytest.MonkeyPatch, modality: str) -> list[str]:
    """Four files that differ, a manifest of questions, a recipe; gives the answers."""
    monkeypatch.chdir(tmp_path)
    kinds: dict[str, Any] = COLOURS if modality == "video" else PITCHES
    for name, kind in kinds.items():
        if modality == "video":
            _save_clip(Path(f"{name}.mp4"), kind)
        else:
            _save_sound(Path(f"{name}.wav"), kind)
    ending = "mp4" if modality == "video" else "wav"
    tiny_watchers.save("timesformer" if modality == "video" else "ast", Path("encoder"))
    rows = [{modality: f"{name}.{ending}", "question": "which?", "answer": name[0]} for name in kinds]
    tiny.write_lines(Path("rows.jsonl"), rows)
    values = tiny.learning_recipe(backbones)
    values["model"]["encoders"] = {modality: "encoder"}
    values["training"] |= {"steps": 250, "learning_rate": 0.02}
    Path("recipe.yaml").write_text(yaml.safe_dump(values))
    return [name[0] for name in kinds]


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_four_files_are_told_apart(world: list[str], epalm: Callable[..., Any], modality: str) -> None:
    done = epalm("train", "recipe.yaml", "--data.train", "rows.jsonl", "--output", "adapter")
    assert done.code == 0, done.err
    done = epalm("evaluate", "adapter", "--data", "rows.jsonl", "--json", "s.json", "--predictions", "p.jsonl")
    assert done.code == 0, done.err
    predictions = [json.loads(line)["prediction"] for line in Path("p.jsonl").read_text().splitlines()]
    assert predictions == world
    file = next(iter(Path().glob("*.mp4" if modality == "video" else "*.wav")))
    assert epalm("ask", "adapter", file, "which?").out == f"{file.stem[0]}\n"


@pytest.mark.parametrize("modality", ["audio"])
def test_the_sound_track_of_a_film_can_be_heard(world: list[str], epalm: Callable[..., Any], modality: str) -> None:
    """A clip with sound gives the same answer as its sound alone."""
    av = pytest.importorskip("av")
    assert epalm("train", "recipe.yaml", "--data.train", "rows.jsonl", "--output", "adapter").code == 0
    time = np.arange(22_050) / 44_100
    wave = (0.3 * np.sin(2 * np.pi * PITCHES["high"] * time)).astype(np.float32)[None]
    with av.open("film.mkv", "w") as container:
        picture = container.add_stream("mpeg4", rate=8)
        picture.width, picture.height, picture.pix_fmt = 48, 40, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=44_100, layout="mono")
        for _ in range(4):
            frame = av.VideoFrame.from_ndarray(np.zeros((40, 48, 3), dtype=np.uint8), format="rgb24")
            container.mux(picture.encode(frame))
        samples = av.AudioFrame.from_ndarray((wave * 32767).astype(np.int16), format="s16", layout="mono")
        samples.sample_rate = 44_100
        container.mux([*sound.encode(samples), *sound.encode(), *picture.encode()])
    assert epalm("ask", "adapter", "film.mkv", "which?").out == "h\n"


@pytest.mark.parametrize("modality", ["video"])
def test_a_sound_is_no_film(world: list[str], refused: Callable[..., str], modality: str, epalm: Any) -> None:
    assert epalm("train", "recipe.yaml", "--data.train", "rows.jsonl", "--output", "adapter").code == 0
    _save_sound(Path("hum.wav"), 300)
    assert "no video stream" in refused("ask", "adapter", "hum.wav", "which?")
