"""`epalm caption` and `epalm ask`: texts, JSON, the settings they take, and adapters that do not fit."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

Command = Callable[..., Any]
Refused = Callable[..., str]


def test_captions_and_json(adapter: Path, epalm: Command) -> None:
    red, blue = "pictures/red.png", "pictures/blue.png"
    one, two = epalm("caption", adapter, red), epalm("caption", adapter, red, blue)
    assert one.code == two.code == 0
    assert two.out.splitlines()[0] == f"{red}: {one.out.strip()}"
    as_json = json.loads(epalm("caption", adapter, red, blue, "--json").out)
    assert [row["file"] for row in as_json] == [red, blue]
    assert as_json[0]["caption"] == one.out.strip()
    answered = json.loads(epalm("ask", adapter, red, "which?", "--json").out)
    assert answered == {"file": red, "question": "which?", "answer": epalm("ask", adapter, red, "which?").out.strip()}


def test_settings_with_effect_are_taken(adapter: Path, epalm: Command) -> None:
    ask = ("ask", adapter, "pictures/red.png", "which?")
    long = epalm(*ask, "--generation.max_new_tokens=5", "--json").out
    short = epalm(*ask, "--generation.max_new_tokens", 1, "--json").out
    assert len(json.loads(short)["answer"]) < len(json.loads(long)["answer"])
    assert epalm(*ask, "--generation.num_beams", 3, "--model.attn_implementation", "eager").code == 0
    assert epalm(*ask, "--text.answer_mark", " Answer:", "--data.perception_batch", 1).code == 0


def test_settings_without_effect_are_refused(adapter: Path, refused: Refused) -> None:
    picture = "pictures/red.png"
    for name, value in (("training.steps", 5), ("adapter.levels", 1), ("data.train", "x"), ("training.seed", 1)):
        for command in (("caption", adapter, picture), ("ask", adapter, picture, "which?")):
            assert f"--{name}: has no effect" in refused(*command, f"--{name}", value)
        assert f"--{name}: has no effect" in refused(
            "evaluate", adapter, "--data", "questions.jsonl", f"--{name}", value
        )
    assert "--generation.num_beams" in refused("info", adapter, "--generation.num_beams", 1)


def test_words_behind_two_dashes_are_no_settings(adapter: Path, epalm: Command) -> None:
    done = epalm("ask", "--json", "--", adapter, "pictures/red.png", "--what.is this")
    assert done.code == 0
    assert json.loads(done.out)["question"] == "--what.is this"


def test_files_without_extension(adapter: Path, epalm: Command) -> None:
    Path("red").write_bytes(Path("pictures/red.png").read_bytes())
    assert epalm("caption", adapter, "red").out == epalm("caption", adapter, "pictures/red.png").out


def test_questions_that_cannot_be_answered(adapter: Path, epalm: Command, refused: Refused) -> None:
    picture = "pictures/red.png"
    for empty in ("", "  ", "?", " ?? "):
        assert "the question is empty" in refused("ask", adapter, picture, empty)
    assert f"{picture}: its text is 99 tokens long" in refused("ask", adapter, picture, "x" * 98)
    assert "pictures/none.png: no such file" in refused("ask", adapter, "pictures/none.png", "which?")
    assert "pictures: is a directory" in refused("caption", adapter, "pictures")
    assert "the question is not UTF-8 text" in refused("ask", adapter, picture, "\udcff what")
    for words in ("Ünïcödé", "色は何ですか", "🦓", "a\nb", "x" * 62):
        assert epalm("ask", adapter, picture, words).code == 0


def test_wrong_adapters_are_refused(adapter: Path, backbones: Path, refused: Refused) -> None:
    ask = ("pictures/red.png", "which?")
    assert "nowhere: no such directory" in refused("ask", "nowhere", *ask)
    assert "pictures: adapter_config.json is missing" in refused("ask", "pictures", *ask)
    assert "adapter_config.json is missing" in refused("info", "pictures")
    other = refused("ask", adapter, *ask, "--model.encoders.image", backbones / "other-vit")
    assert "trained on an image encoder with other weights" in other
    assert "family is llama, the adapter was trained on opt" in refused(
        "ask", adapter, *ask, "--model.language_model", backbones / "llama"
    )
    (adapter / "adapter_model.safetensors").write_bytes(b"\0" * 20)
    assert "adapter_model.safetensors is no safetensors file, or damaged" in refused("ask", adapter, *ask)


def test_backbones_that_have_moved(place: Path, backbones: Path, epalm: Command, refused: Refused) -> None:
    shutil.copytree(backbones / "vit", "eye")
    train = ("train", "recipe.yaml", "--data.train", "questions.jsonl", "--output", "out")
    assert epalm(*train, "--model.encoders.image", "eye").code == 0
    caption = ("caption", place / "out", place / "pictures" / "red.png")
    first = epalm(*caption).out
    os.chdir("pictures")  # the adapter names its backbones in full
    assert epalm(*caption).out == first
    (place / "eye").rename(place / "moved")
    assert (
        f"was trained on {place / 'eye'}, which is not there; name another place with --model.encoders.image"
        in refused(*caption)
    )
    assert epalm(*caption, "--model.encoders.image", "../moved").out == first
    assert f"there is no directory {place / 'eye'} for image" in refused(*caption, "--model.encoders.image", "../eye")
