"""Recipes: where their paths start, what stands above what, and the ones that come with the package."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from epalm.errors import ConfigError
from epalm.recipe import RECIPES, ModelSettings, build_recipe, read_recipe
from epalm.recipe.overrides import split_settings


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_paths_in_a_file_start_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pets" / "lm").mkdir(parents=True)
    write(
        tmp_path / "pets" / "recipe.yaml",
        "data: {train: rows.jsonl, validation: ../held.jsonl}\noutput: adapter\n"
        "model: {language_model: lm, encoders: {image: facebook/dinov2-small}}\n",
    )
    for source in ("pets/recipe.yaml", tmp_path / "pets" / "recipe.yaml"):
        recipe = read_recipe(source)
        assert recipe.data.train.resolve() == tmp_path / "pets" / "rows.jsonl"
        assert recipe.data.validation.resolve() == tmp_path / "held.jsonl"
        assert recipe.output.resolve() == tmp_path / "pets" / "adapter"
        assert recipe.model.language_model == str(tmp_path / "pets" / "lm")  # in full: the adapter will name it
        assert recipe.model.encoders == {"image": "facebook/dinov2-small"}  # no such directory: a hub id


def test_paths_on_the_command_line_start_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lm").mkdir()
    write(tmp_path / "pets" / "recipe.yaml", "data: {train: rows.jsonl}\noutput: adapter\n")
    recipe = read_recipe(
        "pets/recipe.yaml", {"data.train": "mine.jsonl", "output": Path("here"), "model.language_model": "lm"}
    )
    assert recipe.data.train == Path("mine.jsonl")
    assert recipe.output == Path("here")
    assert recipe.model.language_model == str(tmp_path / "lm")
    assert read_recipe("pets/recipe.yaml", {"training.steps": 1}).data.train == Path("pets/rows.jsonl")


def test_home_and_absolute_paths(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", f"data: {{train: ~/rows.jsonl, validation: {tmp_path}/held.jsonl}}\n")
    recipe = read_recipe(path)
    assert recipe.data.train == Path.home() / "rows.jsonl"
    assert recipe.data.validation == tmp_path / "held.jsonl"


def test_recipes_of_the_package() -> None:
    assert sorted(path.stem for path in RECIPES.glob("*.yaml"))
    for path in RECIPES.glob("*.yaml"):
        recipe = read_recipe(path.stem)
        assert recipe == read_recipe(path)
        assert recipe.data.train is None
        assert recipe.output is None


def test_a_file_stands_above_a_name_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "toy_image", "training: {steps: 77}\n")
    assert read_recipe("toy_image").training.steps == 77
    (tmp_path / "toy_image").unlink()
    (tmp_path / "toy_image").mkdir()
    assert read_recipe("toy_image").training.steps is None


def test_an_empty_group_is_no_error(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path / "a.yaml", "training:\nadapter:\noutput:\n"), {"training.steps": 3})
    assert recipe.training.steps == 3


def test_the_command_line_decides_how_long(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "training: {epochs: 8, batch_size: 5}\n")
    recipe = read_recipe(path, {"training.steps": 10})
    assert (recipe.training.steps, recipe.training.epochs, recipe.training.batch_size) == (10, None, 5)
    path = write(tmp_path / "a.yaml", "training: {steps: 8}\n")
    assert read_recipe(path, {"training.epochs": 2}).training.steps is None
    assert read_recipe(path, {"training.epochs": None}).training.steps == 8
    with pytest.raises(ConfigError, match="give epochs or steps, not both"):
        read_recipe(path, {"training.epochs": 2, "training.steps": 3})


def test_a_message_says_which_side_is_wrong(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "training: {steps: 0}\n")
    with pytest.raises(ConfigError, match=r"a\.yaml: training\.steps"):
        read_recipe(path, {"training.batch_size": 3})
    with pytest.raises(ConfigError, match=r"command line: training\.batch_size"):
        build_recipe({}, {"training.batch_size": 0})


def test_values_given_are_not_changed() -> None:
    values = {"training": {"epochs": 2}}
    build_recipe(values, {"training.steps": 5})
    assert values == {"training": {"epochs": 2}}


def test_settings_on_the_command_line_are_of_the_type_that_is_wanted() -> None:
    arguments = [
        *(
            "train",
            "--text.answer_mark",
            " Answer:",
            "--text.question_format=Question: {question}?",
            "--data.train",
            "7",
        ),
        *(
            "--model.device",
            "null",
            "--training.clip",
            "null",
            "--data.store",
            "no",
            "--text.caption_cue",
            "null",
        ),
        *("--training.learning_rate", "1e-3", "--model.encoders.image", "yes", "-x", "--output", "out"),
    ]
    overrides, rest = split_settings(arguments)
    assert rest == ["train", "-x", "--output", "out"]
    recipe = build_recipe({}, overrides)
    assert recipe.text.answer_mark == " Answer:"
    assert recipe.text.question_format == "Question: {question}?"
    assert recipe.text.caption_cue == "null"
    assert recipe.data.train == Path("7")
    assert recipe.data.store is False
    assert recipe.model.device is None
    assert recipe.model.encoders == {"image": "yes"}
    assert recipe.training.clip is None
    assert recipe.training.learning_rate == 1e-3


def test_an_encoder_is_named_beside_those_of_the_file() -> None:
    recipe = build_recipe({"model": {"encoders": {"image": "a"}}}, {"model.encoders.audio": "b"})
    assert recipe.model.encoders == {"image": "a", "audio": "b"}


def test_device_and_precision() -> None:
    assert ModelSettings(device="cpu").device_or_best() == torch.device("cpu")
    assert ModelSettings().device_or_best().type in ("cpu", "cuda")
    assert ModelSettings(torch_dtype="bfloat16").dtype() == torch.bfloat16
    for name in ("", "meta", "cpu:-1", "toaster"):
        with pytest.raises(ConfigError, match=f"model.device: '{name}' cannot be used here; choose from cpu"):
            ModelSettings(device=name).device_or_best()
