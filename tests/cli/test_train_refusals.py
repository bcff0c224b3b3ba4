"""`epalm train` refuses in one line, and before anything is written, what it cannot do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny

Refused = Callable[..., str]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "found nothing"),
        ("- a\n- b\n", "found a list"),
        ("training: {steps: 5\n", "not valid YAML"),
        ("training: {stepz: 5}\n", "unknown setting 'training.stepz'; did you mean 'training.steps'?"),
        ("trainin: {steps: 5}\n", "unknown setting 'trainin'; did you mean 'training'?"),
        ("training: 5\n", "training: must be a group of 'name: value' settings, got 5"),
        ("training: {steps: 1}\ntraining: {steps: 2}\n", "'training' is given twice"),
    ],
)
def test_a_wrong_recipe_is_refused(place: Path, refused: Refused, text: str, expected: str) -> None:
    Path("wrong.yaml").write_text(text)
    for command in (("train", "wrong.yaml"), ("info", "wrong.yaml")):
        printed = refused(*command)
        assert printed.startswith("epalm: wrong.yaml: ")
        assert expected in printed


def test_a_picture_as_a_recipe_and_a_recipe_as_an_adapter(place: Path, refused: Refused) -> None:
    assert "pictures/red.png: not valid YAML" in refused("train", "pictures/red.png")
    assert "pictures: is a directory" in refused("train", "pictures")
    assert "recipe.yaml" in refused("caption", "recipe.yaml", "pictures/red.png")
    assert "nowhere.yaml: no such recipe file" in refused("info", "nowhere.yaml")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "there are no rows in it"),
        ([{"image": "pictures/red.png", "caption": "a"}, {"image": "pictures/red.png"}], "row 2: has no caption"),
        ([{"image": "pictures/none.png", "caption": "a"}], "'pictures/none.png' (row 1)"),
        ([{"image": "pictures/red.png", "question": "a" * 70, "answer": "b"}],
         "row 1: its text with the answer is 74 tokens long, but the language model has positions for 64"),
        ([{"image": "pictures/red.png", "captions": ["short", "c" * 70]}], "row 1: its text with the answer is 72"),
        ([{"video": "pictures/red.png", "caption": "a"}], "row 1: brings video, but the model perceives image"),
    ],
)  # fmt: skip
def test_wrong_rows_are_refused_before_training(
    place: Path, refused: Refused, rows: list[dict[str, Any]], message: str
) -> None:
    tiny.write_lines(Path("wrong.jsonl"), rows)
    assert message in refused("train", "recipe.yaml", "--data.train", "wrong.jsonl", "--output", "out")
    assert not Path("out").exists()


def test_wrong_validation_rows_are_refused_before_training(place: Path, refused: Refused) -> None:
    train = ("train", "recipe.yaml", "--data.train", "captions.jsonl", "--output", "out", "--data.validation")
    assert "none.jsonl: no such file" in refused(*train, "none.jsonl")
    picture = {"image": "pictures/red.png"}
    tiny.write_lines(
        Path("wrong.jsonl"), [picture | {"caption": "c" * 99}, picture | {"question": "a" * 70, "answer": "b"}]
    )
    assert "wrong.jsonl, row 2: its text is 71 tokens long" in refused(*train, "wrong.jsonl")
    tiny.write_lines(Path("wrong.jsonl"), [{"video": "pictures/red.png", "caption": "a"}])
    assert "wrong.jsonl, row 1: brings video" in refused(*train, "wrong.jsonl")
    assert not Path("out").exists()


@pytest.mark.parametrize("device", ["banana", "cuda:99", "meta", "hpu", ""])
def test_a_device_that_is_not_there(place: Path, refused: Refused, device: str) -> None:
    options = ("--data.train", "questions.jsonl", "--output", "out", f"--model.device={device}")
    assert f"model.device: '{device}' cannot be used here; choose from cpu" in refused("train", "recipe.yaml", *options)


def test_backbones_that_are_not_there(place: Path, backbones: Path, refused: Refused) -> None:
    options = ("train", "recipe.yaml", "--data.train", "questions.jsonl", "--output", "out")
    assert "no/such" in refused(*options, "--model.language_model", "no/such")
    assert "no/such" in refused(*options, "--model.encoders.image", "no/such")
    assert "not a causal language model" in refused(*options, "--model.language_model", backbones / "vit")
    assert "toyworld/none: no such toy backbone" in refused(*options, "--model.language_model", "toyworld/none")
    both = f"{{audio: {backbones / 'vit'}, image: {backbones / 'vit'}}}"
    assert "perceives image, not audio" in refused(*options, "--model.encoders", both)
    for name in ("language_model", "encoders.image"):
        assert "no/such" in refused("info", "recipe.yaml", f"--model.{name}", "no/such")


def test_tokenizers_that_do_not_fit(place: Path, refused: Refused) -> None:
    train = ("train", "recipe.yaml", "--data.train", "questions.jsonl", "--output", "out", "--model.language_model")
    silent = tiny.save_language_model(place / "silent")
    for path in silent.glob("tokenizer*"):
        path.unlink()
    assert f"language model {silent}: has no tokenizer beside it" in refused(*train, "silent")
    small = {"vocab_size": 60, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 2}
    other = tiny.save_language_model(place / "other", **small)
    message = refused(*train, "other", "--data.store", "false")
    assert f"language model {other}: its tokenizer writes token" in message
    assert "it has embeddings for 60 tokens only" in message


def test_a_modality_of_which_nothing_would_be_learned(place: Path, backbones: Path, refused: Refused) -> None:
    train = ("train", "recipe.yaml", "--data.train", "questions.jsonl", "--output", "out")
    message = refused(*train, "--model.encoders.audio", "toyworld/ast")
    assert "model.encoders.audio: no row of questions.jsonl brings audio, so nothing of it would be learned" in message
    assert "model.encoders: 'smell' is none of image, video, audio" in refused(*train, "--model.encoders.smell", "x")
    assert "unknown data set 'nonsense'" in refused(*train, "--data.dataset", "nonsense")
    assert "data.dataset: no split of GQA is used" in refused(*train, "--data.dataset", "gqa", "--data.root", "nowhere")
    assert not Path("out").exists()


def test_an_output_that_cannot_be(place: Path, refused: Refused) -> None:
    Path("file").write_text("mine")
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    Path("loop").symlink_to("nowhere-at-all")
    train = ("train", "recipe.yaml", "--data.train", "questions.jsonl", "--output")
    assert "give --output" in refused(*train[:-1])
    assert "file is not a directory" in refused(*train, "file")
    assert "file is not a directory" in refused(*train, "file/below/deep")
    assert "loop is not a directory" in refused(*train, "loop")
    assert "full holds other files, such as notes.txt" in refused(*train, "full")
    assert "cannot be written: File name too long" in refused(*train, "x" * 300)
    assert "/proc/nowhere cannot be written" in refused(*train, "/proc/nowhere")
    assert Path("file").read_text() == "mine"
    assert sorted(path.name for path in Path("full").iterdir()) == ["notes.txt"]


def test_a_chat_template_that_is_missing_or_refuses_a_caption(place: Path, refused: Refused) -> None:
    folder = tiny.save_language_model(place / "lm", "llama")
    model = ("--model.language_model", "lm", "--data.train", "captions.jsonl")
    train = ("train", "recipe.yaml", *model, "--output", "out")
    chat = ("--text.chat_template", "true")
    assert f"the tokenizer {folder} has no chat template; leave the setting false" in refused(*train, *chat)
    strict = "{% if not messages[0].content %}{{ raise_exception('say something') }}{% endif %}"
    (folder / "chat_template.jinja").write_text(strict + "{% for m in messages %}{{ m.content }}{% endfor %}")
    assert "refuses an empty user's turn: say something; give captions an instruction" in refused(*train, *chat)
    assert not Path("out").exists()
