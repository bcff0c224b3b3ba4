"""A language model that was taught to chat, from training to answers: its turns, its end token, its control tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from epalm.data.manifest import read_manifest
from epalm.evaluation import Answerer
from epalm.evaluation.perception_gain import PerceptionGain, measure_perception
from epalm.evaluation.record import settings_of
from epalm.recipe import Recipe, build_recipe
from epalm.tasks import TextTemplate
from epalm.training import run_recipe
from epalm.training.run import load_model

START, END, UNUSED, PADDED = 258, 259, 260, 270
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role[0] + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>a\n' }}{% endif %}"
)


@pytest.fixture
def values(place: Path, backbones: Path) -> dict[str, Any]:
    """A recipe that teaches colours to a chat model."""
    folder = tiny.save_language_model(place / "lm", "llama", vocab_size=272)
    tokenizer = tiny.byte_tokenizer()
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    tokenizer.add_tokens(["<unused0>"])
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    values = tiny.learning_recipe(backbones)
    values["model"]["language_model"] = str(folder)
    return values | {"data": {"train": "questions.jsonl"}, "output": "adapter"}


def test_what_is_learned_in_turns_is_answered_in_turns(values: dict[str, Any]) -> None:
    run_recipe(build_recipe(values, {"text.chat_template": True}))
    rows, answers = read_manifest("questions.jsonl"), [row["answer"] for row in tiny.questions()]
    rows += read_manifest(tiny.write_lines(Path("long.jsonl"), [row | {"question": "x?"} for row in tiny.questions()]))
    asked = Answerer.load("adapter")
    assert asked.tasks.template.chat_template
    assert asked.answer(rows)[:4] == answers
    for changes in ({"num_beams": 3}, {"batch_size": 1}):
        other = Answerer(asked.model, asked.tasks.template, asked.generation.model_copy(update=changes))
        assert other.answer(rows)[:4] == answers
    Path("answers.txt").write_text("\n".join("wbgr"))
    assert Answerer.load("adapter", {"generation.answers": "answers.txt"}).answer(rows[:4]) == answers
    assert settings_of(asked, "adapter", "", [])["special_tokens"] == {
        "begin": 257,
        "end": [257, END],
        "taught_end": END,
        "padding": 256,
        "suppressed": {"tokens": 3, "names": ["<pad>", "<|im_start|>", "<unused0>"], "rows_without_token": 11},
    }
    learned, plain = gain_of(asked), gain_of(Answerer(asked.model, TextTemplate(), asked.generation))
    assert learned.right < 0.2 < learned.gain.low
    assert plain.right > learned.right + 0.2  # other words are another question


def gain_of(asked: Answerer) -> PerceptionGain:
    gain = measure_perception(asked, read_manifest("questions.jsonl"))
    assert isinstance(gain, PerceptionGain)
    return gain


def untrained(recipe: Recipe, **generation: Any) -> Answerer:
    generation = {"num_beams": 1, "max_new_tokens": 12} | generation
    return Answerer(load_model(recipe), recipe.text, recipe.generation.model_copy(update=generation))


def test_control_tokens_are_not_said(values: dict[str, Any]) -> None:
    """Some are made likelier than the letters that a language model says most: without them it says these as before."""
    recipe = build_recipe(values)
    pictures = [f"pictures/{name}.png" for name in tiny.COLOURS]
    plain = untrained(recipe)
    expected = plain.caption(pictures)
    letters = list(dict.fromkeys(plain.tasks["captioning"].tokenizer.target_ids(expected[0], "")))
    assert len(letters) > 4
    for changes in ({}, {"suppress_special_tokens": False}, {"num_beams": 3}):
        asked = untrained(recipe, **changes)
        head = asked.model.language_model.get_output_embeddings().weight
        with torch.no_grad():
            for token, letter in zip((UNUSED, START, PADDED, END), letters, strict=False):
                head[token] = 2 * head[letter]
        said = asked.caption(pictures)
        if changes.get("num_beams"):
            assert "<" not in "".join(said)
        elif changes:
            assert said != expected
            assert "<unused0>" in "".join(said)
        else:
            assert said == expected
