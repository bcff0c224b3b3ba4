"""Questions with a closed vocabulary: the likeliest answer, whichever rows share a batch, by settings alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from epalm.data.rows import Row
from epalm.errors import DataError
from epalm.evaluation import Answerer
from epalm.models import PerceptualLM
from epalm.recipe import build_recipe
from epalm.training.run import load_model

ANSWERS = [*(f"{a}{b}" for a in "abgrw" for b in "abglortwz"), "a white bus"]
"""Mostly of one length: a random language model likes short ones best."""


@pytest.fixture
def rows(place: Path) -> list[Row]:
    media = [{"image": place / "pictures" / f"{name}.png"} for name in tiny.COLOURS]
    questions = ["which?", "what is it, then?", "a", "is it very, very red?", "how many " * 3]
    asked = [Row(media[i % 4], question) for i, question in enumerate(questions * 3)]
    return [*asked, Row(media[0])]


def answerer(backbones: Path, language_model: str = "opt", **changes: Any) -> Answerer:
    Path("answers.txt").write_text("\n".join([*ANSWERS, "", " ab "]) + "\n")
    settings = {"generation.answers": "answers.txt", "generation.max_new_tokens": 8} | changes
    recipe = build_recipe(tiny.recipe_values(backbones, language_model), settings)
    model = load_model(recipe)
    with torch.no_grad():
        for parameter in model.perception.connector.parameters():
            parameter.mul_(5)  # so that perception surely matters
    return Answerer(model, recipe.text, recipe.generation)


@torch.no_grad()
def likeliest(asked: Answerer, row: Row) -> str:
    """By the loss of every answer, one by one."""
    model: PerceptualLM = asked.model
    task = asked.tasks.of(row)
    prompt, ids = task.prompt(row.question), task.prompt_ids(row.question)
    encoder = model.encoders["image"]
    features = encoder.features(encoder.preprocess([encoder_picture(row)]), model.levels["image"])

    def total(answer: str) -> float:
        target = task.tokenizer.target_ids(answer, prompt)
        labels = torch.tensor([[-100] * len(ids) + target])
        return float(model(torch.tensor([[*ids, *target]]), labels=labels, features=features).loss) * len(target)

    return min(ANSWERS, key=total)


def encoder_picture(row: Row) -> Any:
    from epalm.media import load_media

    return load_media("image", row.media["image"])


@pytest.mark.parametrize("language_model", ["opt", "llama"])
def test_the_likeliest_whatever_the_batch_and_order(backbones: Path, rows: list[Row], language_model: str) -> None:
    said = {
        size: answerer(backbones, language_model, **{"generation.batch_size": size}).answer(rows) for size in (1, 7)
    }
    assert said[1] == said[7]
    asked = answerer(backbones, language_model, **{"generation.batch_size": 5})
    order = random.Random(0).sample(range(len(rows)), len(rows))
    assert asked.answer([rows[i] for i in order]) == [said[1][i] for i in order]
    assert said[1][:-1] == [likeliest(asked, row) for row in rows[:-1]]
    if language_model == "llama":  # the tiny OPT has one favourite
        assert len(set(said[1])) > 2
    assert said[1][-1] not in ANSWERS  # a caption is not chosen
    assert asked.vocabulary == ANSWERS


def test_a_legacy_mask_has_no_padding_to_see(backbones: Path, rows: list[Row]) -> None:
    for changes in ({}, {"generation.answers": None}):
        said = [
            answerer(backbones, **{"adapter.mask": "legacy", "generation.batch_size": size} | changes).answer(rows)
            for size in (1, 7)
        ]
        assert said[0] == said[1]


def test_by_settings_of_the_command_line(
    place: Path, backbones: Path, epalm: Callable[..., Any], refused: Callable[..., str]
) -> None:
    Path("answers.txt").write_text("".join(f"{answer}\n" for answer in ANSWERS))
    run = ("train", "recipe.yaml", "--data.train", "questions.jsonl", "--output", "adapter")
    assert epalm(*run, "--generation.answers", "answers.txt").code == 0
    ranked = ("--generation.answers", "answers.txt")
    asked = ("ask", "adapter", "pictures/red.png", "which?")
    assert epalm(*asked).out.strip() not in ANSWERS  # the file does not go with the adapter
    assert epalm(*asked, *ranked).out.strip() in ANSWERS
    assert epalm(*asked, *ranked, "--generation.rank_top_k", 1).out.strip() in ANSWERS
    done = epalm("evaluate", "adapter", "--data", "questions.jsonl", "--predictions", "p.jsonl", *ranked)
    assert done.code == 0, done.err
    Path("empty.txt").write_text("\n")
    assert "empty.txt holds no answers" in refused(*asked, "--generation.answers", "empty.txt")
    assert "none.txt cannot be read: No such file" in refused(*asked, "--generation.answers", "none.txt")
    assert "rank_top_k is of ranked answers" in refused(*asked, "--generation.rank_top_k", 3)


def test_an_answer_without_room(backbones: Path, place: Path) -> None:
    asked = answerer(backbones)
    picture = {"image": place / "pictures" / "red.png"}
    assert asked.answer([Row(picture, "q" * 50)])
    with pytest.raises(
        DataError, match=r"row 3: its text leaves no room for the longest of generation\.answers, of 13"
    ):
        asked.answer([Row(picture, "q" * 60, number=3)])
