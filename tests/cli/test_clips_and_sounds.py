"""Whole runs on files of clips and of sounds: the same commands as for pictures, from files to answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_media
import tiny_watchers
import yaml

PITCHES = {"low": 200, "middle": 700, "high": 1800, "shrill": 4000}
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 220), "white": (250, 250, 250)}


@pytest.fixture
def world(tmp_path: Path, backbones: Path, monkeypatch: pytest.MonkeyPatch, modality: str) -> list[str]:
    """Four files that differ, a manifest of questions, a recipe; gives the answers."""
    monkeypatch.chdir(tmp_path)
    kinds: dict[str, Any] = COLOURS if modality == "video" else PITCHES
    for name, kind in kinds.items():
        if modality == "video":
            tiny_media.save_clip(Path(f"{name}.mp4"), kind)
        else:
            tiny_media.save_sound(Path(f"{name}.wav"), kind)
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
    assert epalm("train", "recipe.yaml", "--data.train", "rows.jsonl", "--output", "adapter").code == 0
    tiny_media.save_film(Path("film.mkv"), (0, 0, 0), PITCHES["high"])
    assert epalm("ask", "adapter", "film.mkv", "which?").out == "h\n"


@pytest.mark.parametrize("modality", ["video"])
def test_a_sound_is_no_film(world: list[str], refused: Callable[..., str], modality: str, epalm: Any) -> None:
    assert epalm("train", "recipe.yaml", "--data.train", "rows.jsonl", "--output", "adapter").code == 0
    tiny_media.save_sound(Path("hum.wav"), 300)
    assert "no video stream" in refused("ask", "adapter", "hum.wav", "which?")
