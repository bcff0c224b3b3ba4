"""An evaluation as a directory: what is in it, and where it may be written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml

from epalm.models import PerceptualLM
from epalm.runtime.fingerprint import content_fingerprint

FILES = {"predictions.jsonl", "scores.json", "settings.json"}


@pytest.fixture
def adapter(place: Path, backbones: Path, epalm: Callable[..., Any]) -> Path:
    """Trained on questions and captions, on a language model whose answers depend on all there is."""
    rows = [*tiny.questions(), *tiny.captions()]
    values = tiny.recipe_values(backbones, "opt", seed=3) | {"generation": {"num_beams": 3, "max_new_tokens": 9}}
    Path("opt.yaml").write_text(yaml.safe_dump(values))
    tiny.write_lines(Path("rows.jsonl"), rows)
    assert epalm("train", "opt.yaml", "--data.train", "rows.jsonl", "--output", "adapter").code == 0
    names = list(tiny.COLOURS)
    asked = [
        {"image": f"pictures/{names[i % 4]}.png", "question": "is it" + " so" * (i % 9) + f" {i}?", "answer": "r"}
        for i in range(60)
    ]
    shown = [{"image": f"pictures/{name}.png", "caption": name} for name in names]
    tiny.write_lines(Path("held.jsonl"), [*asked, *shown])
    return Path("adapter")


def test_everything_is_in_one_directory(adapter: Path, epalm: Callable[..., Any]) -> None:
    done = epalm("evaluate", adapter, "--data", "held.jsonl", "--output", "result", "--generation.num_beams", 2)
    assert done.code == 0, done.err
    assert {path.name for path in Path("result").iterdir()} == FILES
    scores = json.loads(Path("result/scores.json").read_text())
    assert scores["rows"] == {"question_answering": 60, "captioning": 4}
    found = scores["details"]["question_answering"]["scores"]["exact_match"]
    assert found["low"] <= scores["scores"]["question_answering"]["exact_match"] <= found["high"]
    assert len(Path("result/predictions.jsonl").read_text().splitlines()) == 64
    settings = json.loads(Path("result/settings.json").read_text())
    model = PerceptualLM.from_pretrained(adapter)
    assert settings["adapter"]["fingerprint"] == content_fingerprint(model.trained_state_dict())
    assert settings["language_model"]["fingerprint"] == model.card().language_model.fingerprint
    assert settings["encoders"]["image"]["fingerprint"] == model.card().encoders["image"].fingerprint
    assert settings["generation"]["num_beams"] == 2
    assert settings["seed"] == 3
    assert settings["versions"]["torch"] == torch.__version__
    assert settings["text"]["question_format"] == "{question}?"
    assert settings["data"]["rows"] == "held.jsonl"
    assert [file["path"] for file in settings["data"]["files"]] == ["held.jsonl"]
    assert len(settings["data"]["files"][0]["sha256"]) == 64
    with torch.no_grad():
        next(model.perception.connector.parameters()).view(-1)[0] += 1e-6
    assert settings["adapter"]["fingerprint"] != content_fingerprint(model.trained_state_dict())


def test_rows_without_answers_are_predicted(adapter: Path, epalm: Callable[..., Any]) -> None:
    tiny.write_lines(Path("test.jsonl"), [{"image": "pictures/red.png", "question": "which?"}])
    done = epalm("evaluate", adapter, "--data", "test.jsonl", "--output", "result")
    assert done.code == 0, done.err
    assert json.loads(Path("result/scores.json").read_text())["scores"] == {}
    assert json.loads(Path("result/predictions.jsonl").read_text())["references"] == []


def test_other_files_are_left_alone(adapter: Path, epalm: Callable[..., Any], refused: Callable[..., str]) -> None:
    call = ("evaluate", adapter, "--data", "held.jsonl", "--output")
    assert "adapter holds other files, such as README.md; give a new or empty directory" in refused(*call, adapter)
    assert "there is no directory" in refused(*call, "nowhere/result")
    assert "--output" in refused(*call, "held.jsonl/result")
    Path("file").write_text("mine")
    assert "file is a file" in refused(*call, "file")
    assert Path("file").read_text() == "mine"
