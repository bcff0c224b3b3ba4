"""Two modalities in one input, from files to answers: a slot each, and rows that bring one of them or both."""

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

from epalm.data.file_features import PerceivedFiles
from epalm.data.manifest import read_manifest
from epalm.data.rows import Row
from epalm.evaluation import Answerer

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60)}
PITCHES = {"low": 200, "high": 1800}
FILMS = {"red-low": "a", "red-high": "b", "green-low": "c", "green-high": "d"}
"""The answer takes both: neither colour nor pitch tells it."""
Command = Callable[..., Any]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory, backbones: Path) -> Path:
    """Films of two colours and two pitches, and what is only seen or only heard; `rows.jsonl`, `recipe.yaml`."""
    folder = tmp_path_factory.mktemp("films")
    rows: list[dict[str, Any]] = []
    for name, answer in FILMS.items():
        colour, pitch = name.split("-")
        film = tiny_media.save_film(folder / f"{name}.mkv", COLOURS[colour], PITCHES[pitch]).name
        rows.append({"video": film, "audio": film, "question": "which?", "answer": answer})
    for name, colour in COLOURS.items():
        clip = tiny_media.save_clip(folder / f"{name}.mp4", colour).name
        rows.append({"video": clip, "question": "which?", "answer": name[0]})
    for name, pitch in PITCHES.items():
        sound = tiny_media.save_sound(folder / f"{name}.wav", pitch).name
        rows.append({"audio": sound, "question": "which?", "answer": name[0]})
    tiny.write_lines(folder / "rows.jsonl", rows)
    tiny_watchers.save("timesformer", folder / "watcher")
    tiny_watchers.save("ast", folder / "listener")
    values = tiny.learning_recipe(backbones)
    values["model"]["encoders"] = {"video": "watcher", "audio": "listener"}
    values["training"] |= {"steps": 400, "learning_rate": 0.02}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    return folder


@pytest.fixture(scope="module")
def adapter(films: Path) -> Path:
    """An adapter that has learned all the rows."""
    from epalm.cli import run

    data = ("--data.train", str(films / "rows.jsonl"), "--output", str(films / "adapter"))
    assert run(["train", str(films / "recipe.yaml"), *data]) == 0
    return films / "adapter"


def test_both_one_and_the_other_are_told_apart(
    films: Path, adapter: Path, epalm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In company, each alone, from the command line and from Python."""
    monkeypatch.chdir(films)
    done = epalm("evaluate", adapter, "--data", "rows.jsonl", "--json", "s.json", "--predictions", "p.jsonl")
    assert done.code == 0, done.err
    assert json.loads(Path("s.json").read_text())["scores"] == {"question_answering": {"exact_match": 100.0}}
    predictions = [json.loads(line) for line in Path("p.jsonl").read_text().splitlines()]
    assert [p["prediction"] for p in predictions] == [*"abcdrglh"]
    assert predictions[0]["video"] == predictions[0]["audio"] == "red-low.mkv"
    answerer = Answerer.load(adapter)
    for row in read_manifest("rows.jsonl"):
        assert answerer.answer([row]) == [row.targets[0]]
        assert answerer.ask(row.media, "which?") == row.targets[0]
        first, *second = dict(row.media).values()
        assert (
            epalm("ask", adapter, first, "which?", *(f"--audio={file}" for file in second)).out == row.targets[0] + "\n"
        )


def test_picture_and_sound_of_different_films_make_another(films: Path, adapter: Path) -> None:
    answerer = Answerer.load(adapter)
    for name, answer in FILMS.items():
        colour, pitch = name.split("-")
        seen = next(films / f"{other}.mkv" for other in FILMS if other.startswith(colour) and other != name)
        heard = films / f"{pitch}.wav"
        assert answerer.ask({"video": seen, "audio": heard}, "which?") == answer


def test_batches_and_order_change_no_answer(films: Path, adapter: Path) -> None:
    rows = read_manifest(films / "rows.jsonl")
    asked = [*rows, *(Row(row.media, "what do you make of it?") for row in rows), *(Row(row.media) for row in rows)]
    answerer = Answerer.load(adapter)
    alone = [answerer.answer([row])[0] for row in asked]
    for size in (2, 32):
        answerer = Answerer.load(adapter, {"generation.batch_size": size})
        assert answerer.answer(asked) == alone
        assert answerer.answer(asked[::-1]) == alone[::-1]


def test_every_file_is_perceived_once_by_each_sense_it_serves(films: Path, adapter: Path) -> None:
    progress: list[tuple[str, int, int]] = []
    model = Answerer.load(adapter).model
    perceived = PerceivedFiles.of_model(model)
    media = [row.media for row in read_manifest(films / "rows.jsonl")]
    perceived.perceive(media, lambda *call: progress.append(call))
    assert sorted(progress) == [("perceiving audio", 6, 6), ("perceiving video", 6, 6)]
    assert {name: tensor.shape[0] for name, tensor in perceived.of(media[:4]).items()} == {"audio": 4, "video": 4}
    assert list(perceived.of(media[4:6])) == ["video"]


def test_captions_of_files_with_sounds(films: Path, adapter: Path, epalm: Command, refused: Callable[..., str]) -> None:
    first, second = films / "red-low.mkv", films / "green-low.mkv"
    low, high = films / "low.wav", films / "high.wav"
    done = epalm("caption", adapter, first, second, "--audio", low, "--audio", high, "--json")
    assert done.code == 0, done.err
    answers = json.loads(done.out)
    expected = Answerer.load(adapter).caption([{"video": first, "audio": low}, {"video": second, "audio": high}])
    files = [(str(first), str(low)), (str(second), str(high))]
    assert answers == [{"file": f, "audio": a, "caption": c} for (f, a), c in zip(files, expected, strict=True)]
    assert "--audio: given 1 times for 2 files" in refused("caption", adapter, first, second, "--audio", low)
    assert "is a second sound" not in refused("ask", adapter, "none.mkv", "which?", "--audio", low)
    assert "clip.txt: cannot tell whether it is" in refused("ask", adapter, "clip.txt", "which?")
    answered = json.loads(epalm("ask", adapter, first, "which?", "--audio", low, "--json").out)
    assert answered == {"file": str(first), "audio": str(low), "question": "which?", "answer": "a"}


def test_what_it_holds_is_told(films: Path, adapter: Path, epalm: Command) -> None:
    printed = epalm("info", adapter).out
    for name in ("audio", "video"):
        assert f"connector.{name}.0.weight" in printed
    planned = epalm("info", films / "recipe.yaml")
    assert planned.code == 0, planned.err
    trained = json.loads((adapter / "adapter_config.json").read_text())["trained_parameters"]
    assert json.loads(epalm("info", films / "recipe.yaml", "--json").out)["trained_parameters"] == trained


def test_adapters_apart_answer_by_the_kind_of_file(
    films: Path, epalm: Command, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the command line as alone; the film has a watcher here, and a picture nobody."""
    monkeypatch.chdir(films)
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    for name, encoder, chosen in (("see", "watcher", rows[4:6]), ("hear", "listener", rows[6:])):
        tiny.write_lines(Path(f"{name}.jsonl"), chosen)
        sense = "video" if name == "see" else "audio"
        options = ("--model.encoders", f"{{{sense}: {encoder}}}", "--training.steps", 20, "--output", name)
        assert epalm("train", "recipe.yaml", "--data.train", f"{name}.jsonl", *options).code == 0
    for file, own in (("red.mp4", "see"), ("low.wav", "hear"), ("green-high.mkv", "see")):
        alone = epalm("ask", own, file, "which?").out
        assert epalm("ask", "see", file, "which?", "--adapter", "hear").out == alone
        assert epalm("ask", "hear", file, "which?", "--adapter=see").out == alone
    answers = epalm("caption", "see", "red.mp4", "low.wav", "--adapter", "hear").out.splitlines()
    assert answers == [f"red.mp4: {epalm('caption', 'see', 'red.mp4').out.strip()}",
                    f"low.wav: {epalm('caption', 'hear', 'low.wav').out.strip()}"]  # fmt: skip
    assert "perceives audio, as hear does" in refused("ask", "hear", "low.wav", "?", "--adapter", "hear")
    assert "perceive separately; give one of them, or train one adapter on both" in refused(
        "ask", "see", "red-low.mkv", "which?", "--audio", "red-low.mkv", "--adapter", "hear"
    )
    assert "a.png: is image by its name; what is perceived is video or audio" in refused(
        "ask", "see", "a.png", "which?", "--adapter", "hear"
    )
