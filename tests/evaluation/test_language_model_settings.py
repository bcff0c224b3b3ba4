"""A language model's own generation settings, from the command line: they change no answer, but end tokens count."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from transformers import AutoTokenizer

NASTY = {
    "repetition_penalty": 1.8,
    "no_repeat_ngram_size": 1,
    "suppress_tokens": list(range(100)),
    "do_sample": True,
    "temperature": 9.0,
    "length_penalty": -3.0,
    "max_new_tokens": 2,
    "stop_strings": ["a"],
    "return_dict_in_generate": True,
}


@pytest.fixture
def folder(place: Path, backbones: Path) -> Path:
    """A language model of one's own, which `recipe.yaml` trains on; its answers begin with various letters."""
    values = tiny.recipe_values(backbones)
    values["model"]["language_model"] = str(tiny.save_language_model(place / "lm", "llama", seed=5))
    values["generation"]["max_new_tokens"] = 12
    (place / "recipe.yaml").write_text(yaml.safe_dump(values))
    return place / "lm"


def change(folder: Path, **settings: Any) -> None:
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def train(epalm: Callable[..., Any]) -> str:
    """What was told on the way."""
    done = epalm("train", "recipe.yaml", "--data.train", "captions.jsonl", "--output", "adapter")
    assert done.code == 0, done.err
    return done.err


def evaluate(epalm: Callable[..., Any], beams: int) -> tuple[list[str], dict[str, Any], str]:
    """Predictions, settings and what was told on the way."""
    done = epalm(
        "evaluate", "adapter", "--data", "captions.jsonl", "--output", "result", "--generation.num_beams", beams
    )
    assert done.code == 0, done.err
    lines = Path("result/predictions.jsonl").read_text().splitlines()
    settings = json.loads(Path("result/settings.json").read_text())
    return [json.loads(line)["prediction"] for line in lines], settings, done.err


def test_scores_do_not_depend_on_the_file(folder: Path, epalm: Callable[..., Any]) -> None:
    assert "end" not in train(epalm)
    clean = [evaluate(epalm, beams)[:2] for beams in (1, 3)]
    suppressed = {"tokens": 1, "names": ["<pad>"], "rows_without_token": 2}
    expected = {"begin": 257, "end": [257], "taught_end": 257, "padding": 256, "suppressed": suppressed}
    assert clean[0][1]["special_tokens"] == expected
    change(folder, **NASTY)
    assert [evaluate(epalm, beams)[:2] for beams in (1, 3)] == clean


def test_both_end_tokens_count_and_are_told_once(folder: Path, epalm: Callable[..., Any]) -> None:
    train(epalm)
    clean, _, _ = evaluate(epalm, 1)
    letter = next(letter for letter in clean[0][2:] if letter.isascii() and letter.isalpha())
    other = AutoTokenizer.from_pretrained(folder)(letter, add_special_tokens=False)["input_ids"][0]
    change(folder, eos_token_id=[other])
    line = f"its tokenizer ends a text with token 257 ('</s>'), its generation settings with {other} ('{letter}')"
    texts, settings, err = evaluate(epalm, 1)
    assert texts == [text.partition(letter)[0].strip() for text in clean]
    assert texts != clean
    assert err.count(line) == 1
    assert settings["special_tokens"]["end"] == [other, 257]
    assert settings["special_tokens"]["taught_end"] == 257
    assert train(epalm).count(line) == 1
    for command in (("caption", "adapter", "pictures/red.png"), ("ask", "adapter", "pictures/red.png", "which?")):
        done = epalm(*command)
        assert (done.code, done.err.count(line)) == (0, 1)
