"""Answers: the same from a live model and from its saved adapter, alone and in a batch, in any order."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM, ByT5Tokenizer

from epalm.data.file_features import PerceivedFiles
from epalm.data.rows import Row
from epalm.errors import AdapterError, ConfigError, DataError, MediaError, UnsupportedModelError
from epalm.evaluation import Answerer
from epalm.models import PerceptualLM
from epalm.recipe import GenerationSettings, Recipe, build_recipe
from epalm.settings import AdapterConfig
from epalm.tasks import TextTemplate
from epalm.tasks.template import FORMER_TEXT
from epalm.training import run_recipe
from epalm.training.run import load_model

QUESTIONS = ["a", "which?", "what is it, then?", "x" * 40, "is it " + "very " * 10 + "red?"]


@pytest.fixture
def rows(place: Path) -> list[Row]:
    """Captions and questions of every length, up to all the positions there are."""
    media = [{"image": place / "pictures" / f"{name}.png"} for name in tiny.COLOURS]
    asked = [Row(media[i % 4], question) for i, question in enumerate([*QUESTIONS, "y" * 58, "z" * 62])]
    return [*asked, *(Row(one) for one in media)]


def recipe(backbones: Path, language_model: str = "opt", **changes: Any) -> Recipe:
    changed = {key.replace("__", "."): value for key, value in changes.items()}
    return build_recipe(tiny.recipe_values(backbones, language_model), changed)


def answerer(recipe: Recipe, **generation: Any) -> Answerer:
    model = load_model(recipe)
    with torch.no_grad():
        for parameter in model.perception.connector.parameters():
            parameter.mul_(5)  # so that perception surely matters
    return Answerer(model, recipe.text, recipe.generation.model_copy(update=generation))


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("language_model", ["opt", "llama"])
def test_batch_and_order_change_no_answer(backbones: Path, rows: list[Row], language_model: str, beams: int) -> None:
    answers = {}
    for batch_size in (1, 3, 7):
        asked = answerer(recipe(backbones, language_model), batch_size=batch_size, num_beams=beams, max_new_tokens=8)
        answers[batch_size] = asked.answer(rows)
    assert answers[1] == answers[3] == answers[7]
    assert len(set(answers[1])) > len(rows) // 2
    order = random.Random(0).sample(range(len(rows)), len(rows))
    shuffled = asked.answer([rows[i] for i in order])
    assert [shuffled[order.index(i)] for i in range(len(rows))] == answers[1]


def test_a_pad_token_without_an_embedding_is_not_used(backbones: Path, rows: list[Row]) -> None:
    asked = answerer(recipe(backbones, "llama"), num_beams=1, max_new_tokens=4)
    expected = asked.answer(rows)
    tokenizer, embeddings = asked.model.tokenizer, asked.model.language_model.get_input_embeddings().num_embeddings
    tokenizer.add_tokens([f"[unused{number}]" for number in range(embeddings - len(tokenizer))])
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert tokenizer.pad_token_id == embeddings
    assert Answerer(asked.model, generation=asked.generation).answer(rows) == expected


def test_a_long_neighbour_does_not_shorten_an_answer(backbones: Path, rows: list[Row]) -> None:
    asked = answerer(recipe(backbones), batch_size=2, max_new_tokens=20)
    short, long = rows[0], next(row for row in rows if row.question == "z" * 62)
    alone = asked.answer([short])[0]
    assert asked.answer([short, long])[0] == alone
    assert len(asked.tasks.of(short).tokenizer._ids(alone)) > 3  # longer than what the neighbour has room for


def test_perception_reaches_the_answer(backbones: Path, place: Path) -> None:
    asked = answerer(recipe(backbones), max_new_tokens=12)
    assert len(set(asked.caption([f"pictures/{name}.png" for name in tiny.COLOURS]))) > 1
    assert asked.caption("pictures/red.png") == asked.caption([Path("pictures/red.png")])


@pytest.mark.parametrize("preset", ["epalm_pt", "epalm", "epalm_ada", "text_only"])
def test_a_saved_adapter_answers_as_before(backbones: Path, rows: list[Row], place: Path, preset: str) -> None:
    settings = {"output": Path("adapter"), "data.train": Path("questions.jsonl"), "adapter.preset": preset}
    trained = build_recipe(tiny.recipe_values(backbones), settings | {"text.caption_cue": "a photo of"})
    run_recipe(trained)
    live = load_model(trained)
    live.load_trained_state_dict(PerceptualLM.from_pretrained("adapter").trained_state_dict())
    loaded = Answerer.load("adapter")
    assert loaded.answer(rows) == Answerer(live, trained.text, trained.generation).answer(rows)
    assert loaded.generation == trained.generation
    assert loaded.tasks["captioning"].prompt() == "a photo of"


def test_run_and_adapter_agree_on_validation(backbones: Path, place: Path) -> None:
    from epalm.data.manifest import read_manifest
    from epalm.evaluation import score_rows

    settings = {"output": Path("a"), "data.train": Path("questions.jsonl"), "data.validation": Path("captions.jsonl")}
    result = run_recipe(build_recipe(tiny.recipe_values(backbones), settings))
    again = score_rows(Answerer.load("a"), read_manifest("captions.jsonl"))
    assert result.evaluation is not None
    assert again.scores == result.evaluation.scores
    assert again.predictions == result.evaluation.predictions


def test_settings_of_the_adapter_can_be_changed(backbones: Path, place: Path) -> None:
    run_recipe(build_recipe(tiny.recipe_values(backbones), {"output": Path("a"), "data.train": Path("captions.jsonl")}))
    changed = Answerer.load("a", {"generation.num_beams": 2, "model.torch_dtype": "bfloat16"})
    assert changed.generation == GenerationSettings(num_beams=2, max_new_tokens=5)
    assert changed.model.language_model.dtype == torch.bfloat16
    for name in ("training.steps", "adapter.levels", "data.train", "output", "nonsense"):
        with pytest.raises(ConfigError, match=f"--{name}: has no effect"):
            Answerer.load("a", {name: 1})
    with pytest.raises(ConfigError, match=r"generation\.num_beams"):
        Answerer.load("a", {"generation.num_beams": 0})


def test_files_are_perceived_anew_by_every_call(backbones: Path, place: Path) -> None:
    asked = answerer(recipe(backbones), max_new_tokens=12)
    files = [Path("pictures") / f"{name}.png" for name in tiny.COLOURS]
    captions = asked.caption(files)
    other = next(i for i, caption in enumerate(captions) if caption != captions[0])
    files[0].write_bytes(files[other].read_bytes())
    assert asked.caption(files[0]) == [captions[other]]


def test_rows_that_cannot_be_answered(backbones: Path, place: Path) -> None:
    asked, picture = answerer(recipe(backbones)), {"image": Path("pictures/red.png")}
    for row, said in (
        (Row({"video": Path("a.mp4")}, "what?"), "a.mp4: brings video, but the model perceives image"),
        (Row({"video": Path("a.mp4")}, "what?", number=4), "rows.jsonl, row 4: brings video"),
        (Row(picture, "q" * 64), r"red\.png: its text is 65 tokens long, but the language model has positions for 64"),
    ):
        with pytest.raises(DataError, match=said):
            asked.answer([row], where="rows.jsonl")
    with pytest.raises(MediaError, match="no such file"):
        asked.caption("none.png")
    with pytest.raises(DataError, match="the question is empty"):
        asked.ask("pictures/red.png", " ? ")
    long = Answerer(load_model(recipe(backbones, "llama")), generation=GenerationSettings(max_new_tokens=2))
    assert long.answer([Row(picture, "q" * 300)])  # rotary positions have no end


def test_a_question_that_a_tokenizer_cannot_write_is_named_by_its_row(backbones: Path, place: Path) -> None:
    settings = recipe(backbones)
    model = PerceptualLM.build(backbones / "opt", backbones / "vit", tokenizer=ByT5Tokenizer(extra_ids=0))
    template = settings.text.model_copy(update={"question_format": "</s>{question}?"})
    row = Row({"image": Path("pictures/red.png")}, "what </s>", number=3)
    with pytest.raises(DataError, match=r"^row 3: 'what </s>' holds </s>, which the tokenizer"):
        Answerer(model, template).answer([row])


def test_a_live_model_without_a_tokenizer_is_named_by_its_kind(backbones: Path) -> None:
    language_model = AutoModelForCausalLM.from_pretrained(backbones / "opt")
    language_model.config._name_or_path = ""
    with pytest.raises(UnsupportedModelError, match=r"^language model OPTForCausalLM: .*; give it as tokenizer=$"):
        Answerer(PerceptualLM.build(language_model, backbones / "vit"))


def test_a_model_answers_as_its_metadata_say(backbones: Path, place: Path) -> None:
    settings = {"output": Path("a"), "data.train": Path("questions.jsonl"), "text.question_format": "Q: {question}?"}
    run_recipe(build_recipe(tiny.recipe_values(backbones), settings))
    model = PerceptualLM.from_pretrained("a")
    assert Answerer(model).tasks.template == Answerer.load("a").tasks.template
    for name in FORMER_TEXT:  # as an earlier version wrote it
        del model.metadata["text"][name]
    template = Answerer(model).tasks.template
    assert template.question_format == "Q: {question}?"
    assert FORMER_TEXT.items() <= template.model_dump().items()
    assert Answerer(model, TextTemplate()).tasks.template == TextTemplate()


def test_an_adapter_for_ready_features_says_so(backbones: Path, place: Path) -> None:
    config = AdapterConfig.from_preset("epalm_pt", start=0, end=2, levels=1)
    model = PerceptualLM.build(backbones / "opt", config=config, encoder_width=16)
    with pytest.raises(AdapterError, match="trained on ready image features; name an encoder"):
        Answerer(model)
    model.save_pretrained("ready")
    with pytest.raises(AdapterError, match="trained on ready image features"):
        Answerer.load("ready")
    assert Answerer.load("ready", {"model.encoders.image": str(backbones / "vit")}).caption("pictures/red.png")


def test_given_features_serve_a_blind_model(backbones: Path, rows: list[Row]) -> None:
    seeing, blind = load_model(recipe(backbones)), load_model(recipe(backbones, adapter__preset="text_only"))
    kept = PerceivedFiles.of_model(seeing)
    assert Answerer(blind, perceived=kept).answer(rows) == Answerer(blind).answer(rows)


def test_right_padding_lets_neighbours_count(backbones: Path, rows: list[Row]) -> None:
    """As in the original; alone, a row has no padding on either side."""
    said = {}
    for padding in ("left", "right"):
        for size in (1, 7):
            settings = {"padding": padding, "batch_size": size, "num_beams": 1, "max_new_tokens": 4}
            said[padding, size] = answerer(recipe(backbones, "llama"), **settings).answer(rows)
    assert said["left", 1] == said["left", 7] == said["right", 1]
    assert said["right", 7] != said["right", 1]
