"""The command line as a user meets it: what is printed, which files are there, which exit code it leaves with."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml
from safetensors.torch import load_file, save_file

FILES = {"adapter_config.json", "adapter_model.safetensors", "README.md"}
EVALUATION = {"predictions.jsonl", "scores.json", "settings.json"}
Command = Callable[..., Any]
Refused = Callable[..., str]


@pytest.fixture
def adapter(place: Path, backbones: Path, epalm: Command) -> Path:
    """An adapter of a short run on questions."""
    assert epalm("train", "recipe.yaml", "--data.train", "questions.jsonl", "--output", "adapter").code == 0
    return place / "adapter"


# -- the whole way ---------------------------------------------------------------------------------------------------


def test_four_colours_are_learned_saved_loaded_and_told_apart(place: Path, backbones: Path, epalm: Command) -> None:
    Path("learn.yaml").write_text(yaml.safe_dump(tiny.learning_recipe(backbones)))
    done = epalm(
        "train", "learn.yaml", "--data.train", "questions.jsonl", "--data.validation", "questions.jsonl",
        "--output", "adapter", "--json", "run.json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "100 steps" in done.out
    assert "adapter written to adapter" in done.out
    assert {path.name for path in Path("adapter").iterdir()} == {*FILES, *EVALUATION}
    result = json.loads(Path("run.json").read_text())
    assert result["last_loss"] < 0.5 * result["first_loss"]
    assert result["validation"]["scores"] == {"question_answering": {"exact_match": 100.0}}
    assert result["trained_share"] == json.loads(Path("adapter/adapter_config.json").read_text())["trained_share"]

    for name in tiny.COLOURS:  # each alone, from the files, without the recipe
        assert epalm("ask", "adapter", f"pictures/{name}.png", "which?").out == f"{name[0]}\n"
    done = epalm("evaluate", "adapter", "--data", "questions.jsonl", "--json", "s.json", "--predictions", "p.jsonl")
    printed, note = done.out.splitlines()
    assert printed == "question_answering (4 rows): exact_match 100.00 [100.00, 100.00]"
    assert note == "in brackets: bootstrap 95 % intervals"
    assert json.loads(Path("s.json").read_text())["scores"] == result["validation"]["scores"]
    predictions = [json.loads(line) for line in Path("p.jsonl").read_text().splitlines()]
    assert [(p["id"], p["prediction"]) for p in predictions] == [("1", "r"), ("2", "g"), ("3", "b"), ("4", "w")]
    assert predictions[0]["question"] == "which?"
    assert predictions[0]["references"] == ["r"]


def test_a_run_starts_from_an_adapter(place: Path, backbones: Path, epalm: Command, refused: Refused) -> None:
    """Named on the command line from where one stands, in a recipe from where that is."""
    Path("learn.yaml").write_text(yaml.safe_dump(tiny.learning_recipe(backbones)))
    data = ("--data.train", "questions.jsonl")
    assert epalm("train", "learn.yaml", *data, "--output", "adapters/first", "--json", "first.json").code == 0
    more = tiny.learning_recipe(backbones)
    more["training"] |= {"steps": 2, "start_from": ["first"]}
    Path("adapters/more.yaml").write_text(yaml.safe_dump(more))
    losses = json.loads(Path("first.json").read_text())
    for command in (
        ("learn.yaml", "--training.steps", "2", "--training.start_from", "adapters/first"),
        ("adapters/more.yaml",),
    ):
        assert epalm("train", *command, *data, "--output", "second", "--json", "second.json").code == 0
        assert json.loads(Path("second.json").read_text())["first_loss"] < 0.5 * losses["first_loss"]
    kept = json.loads(Path("second/adapter_config.json").read_text())["metadata"]
    assert kept["training"]["start_from"] == [str(place / "adapters" / "first")]
    message = refused("train", "learn.yaml", *data, "--output", "third", "--training.start_from", "adapters/frist")
    assert "adapters/frist: no such directory" in message
    message = refused("train", "learn.yaml", *data, "--output", "third", "--training.start_from", "3")
    assert "training.start_from" in message
    assert not Path("third").exists()


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


def test_the_same_seed_gives_the_same_files_and_another_seed_others(adapter: Path, epalm: Command) -> None:
    def train(output: str, seed: int) -> dict[str, bytes]:
        data = ("--data.train", "questions.jsonl", "--output", output)
        assert epalm("train", "recipe.yaml", *data, "--training.seed", seed).code == 0
        return {path.name: path.read_bytes() for path in Path(output).iterdir()}

    first = {path.name: path.read_bytes() for path in adapter.iterdir()}
    assert train("again", 0) == first
    assert train("other", 1)["adapter_model.safetensors"] != first["adapter_model.safetensors"]


def test_text_only_needs_no_encoder(place: Path, backbones: Path, epalm: Command, refused: Refused) -> None:
    values = tiny.recipe_values(backbones) | {"adapter": {"preset": "text_only"}}
    for name, encoders in (("with", values["model"]["encoders"]), ("without", {})):
        Path("blind.yaml").write_text(yaml.safe_dump(values | {"model": values["model"] | {"encoders": encoders}}))
        assert epalm("train", "blind.yaml", "--data.train", "questions.jsonl", "--output", name).code == 0
    assert Path("with/adapter_model.safetensors").read_bytes() == Path("without/adapter_model.safetensors").read_bytes()
    answers = {epalm("ask", "with", f"pictures/{name}.png", "which?").out for name in tiny.COLOURS}
    assert len(answers) == 1
    assert "missing.png: no such file" in refused("ask", "with", "pictures/missing.png", "which?")
    assert epalm("info", "blind.yaml").out.splitlines()[-1] == epalm("train", "blind.yaml", "--data.train",
        "questions.jsonl", "--output", "again").out.splitlines()[-3]  # fmt: skip
    assert "window" not in epalm("info", "with").out


def test_an_earlier_adapter_is_replaced_as_a_whole(adapter: Path, epalm: Command) -> None:
    before = (adapter / "adapter_model.safetensors").read_bytes()
    options = ("--data.train", "captions.jsonl", "--output", adapter)
    assert epalm("train", "recipe.yaml", *options).code == 0
    assert (adapter / "adapter_model.safetensors").read_bytes() != before
    assert {path.name for path in adapter.iterdir()} == FILES


def test_half_precision_is_remembered(place: Path, epalm: Command) -> None:
    options = ("--data.train", "questions.jsonl", "--output", "half", "--model.torch_dtype", "bfloat16")
    assert epalm("train", "recipe.yaml", *options).code == 0
    assert json.loads(Path("half/adapter_config.json").read_text())["metadata"]["model"]["torch_dtype"] == "bfloat16"
    assert epalm("ask", "half", "pictures/red.png", "which?").code == 0


def test_a_recipe_may_be_named_by_an_option(place: Path, epalm: Command) -> None:
    for name, recipe in (("bare", ("recipe.yaml",)), ("named", ("--recipe", "recipe.yaml"))):
        assert epalm("train", *recipe, "--data.train", "questions.jsonl", "--output", name).code == 0
    weights = [Path(name, "adapter_model.safetensors").read_bytes() for name in ("bare", "named")]
    assert weights[0] == weights[1]


# -- telling ---------------------------------------------------------------------------------------------------------


def test_bare_command_and_help(epalm: Command) -> None:
    for arguments in ((), ("--help",)):
        done = epalm(*arguments)
        assert done.code == 0
        assert all(command in done.out for command in ("train", "evaluate", "caption", "ask", "info", "score", "data"))
    printed = " ".join(epalm("train", "--help").out.split())
    for needed in (
        "--output DIR",
        "--recipe RECIPE",
        "epalm train --recipe coco_base",
        "--data.train rows.jsonl",
        "--training.steps 500",
        "epalm train --settings",
        '"answer"',
    ):
        assert needed in printed
    assert "--generation.num_beams 1" in " ".join(epalm("evaluate", "--help").out.split())


def test_every_setting_is_listed(epalm: Command) -> None:
    listed = epalm("train", "--settings")
    assert listed.code == 0
    for line in (
        "--model.encoders.NAME TEXT  [image: toyworld/vit]",
        "--adapter.mask causal|legacy  [causal]",
        "--adapter.prompt_tokens WHOLE_NUMBER  [1]",
        "--data.train PATH  [unset]",
        "--data.store PATH|false  [unset]",
        "--training.learning_rate NUMBER  [0.001]",
        "--training.seed WHOLE_NUMBER  [0]",
        "--output PATH  [unset]",
    ):
        assert line in listed.out.splitlines()
    described = listed.out.splitlines()[1::2]
    assert all(line.startswith("    ") and len(line) > 10 for line in described)


@pytest.mark.parametrize("preset", ["epalm_pt", "epalm", "epalm_ada", "text_only"])
def test_the_share_of_a_recipe_is_that_of_the_model_it_builds(
    place: Path, backbones: Path, epalm: Command, preset: str
) -> None:
    for encoder in ("vit", "other-vit"):  # saved without and with its pooler
        settings = ("--adapter.preset", preset, "--model.encoders.image", backbones / encoder)
        printed = epalm("info", "recipe.yaml", *settings, "--json")
        facts = json.loads(printed.out)
        assert facts["recipe"]["adapter"]["preset"] == preset
        options = ("--data.train", "questions.jsonl", "--output", encoder, "--training.steps", 1)
        assert epalm("train", "recipe.yaml", *settings, *options).code == 0
        card = json.loads(Path(encoder, "adapter_config.json").read_text())
        assert facts["trained_parameters"] == card["trained_parameters"]
        assert facts["trained_share"] == card["trained_share"]
        assert f"{card['trained_share']:.4%}" in epalm("info", "recipe.yaml", *settings).out
        assert f"{card['trained_share']:.4%}" in epalm("info", encoder).out


def test_info_of_an_adapter(adapter: Path, backbones: Path, epalm: Command) -> None:
    printed = epalm("info", adapter)
    assert printed.code == 0
    for fact in (
        str(backbones / "opt"),
        str(backbones / "vit"),
        "layers 0 to 2 of 3",
        "learned          question_answering",
    ):
        assert fact in printed.out
    facts = json.loads(epalm("info", adapter, "--json").out)
    assert facts["tensors"]["prompt.weight"] == [1, 24]
    assert facts["metadata"]["training"]["steps"] == 4


# -- refusals: the command line --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tran"], "No such command 'tran'"),
        (["train", "--outptu", "x"], "no such option --outptu; did you mean '--output'?"),
        (["train", "--steps", "5"], "no such option --steps; did you mean --training.steps?"),
        (["train", "--batch-size", "5"], "did you mean --training.batch_size or --generation.batch_size?"),
        (["train", "--trainin.steps", "5"], "unknown setting 'trainin.steps'; did you mean 'training.steps'?"),
        (["train", "--training.stpes=5"], "unknown setting 'training.stpes'; did you mean 'training.steps'?"),
        (["train", "--training.num_beams", "5"], "did you mean 'generation.num_beams'?"),
        (["train", "--training.batch-size", "5"], "did you mean 'training.batch_size'?"),
        (["train", "--training.steps"], "--training.steps: needs a value"),
        (["train", "--training.steps", "--output", "x"], "--training.steps: needs a value"),
        (["train", "--training.steps", "many"], "training.steps: Input should be a valid integer"),
        (["train", "--training.steps", "-1"], "training.steps: Input should be greater than or equal to 1, got -1"),
        (["train", "--training.steps", "true"], "steps must be a number, not true or false"),
        (["train", "--training.epochs", ".inf"], "training.epochs: Input should be a finite number"),
        (["train", "--training.seed", "-1"], "training.seed"),
        (["train", "--training.epochs", "1", "--training.steps", "5"], "give epochs or steps, not both"),
        (["train", "--adapter.preset", "epalm_pn"], "unknown preset 'epalm_pn'; did you mean 'epalm_pt'?"),
        (["train", "--adapter.connector", "both"], "adapter.connector: Input should be 'shared', 'per_level'"),
        (["train", "--data.store", "true"], "data.store: a directory, or false for none"),
        (["train"], "no recipe is named; give a YAML file or a name that `epalm recipes` lists"),
        (["train", "toy_image"], "give --data.train"),
        (["train", "--recipe", "toy_image"], "give --data.train"),
        (["train", "--recipe", "toy_imagee"], "did you mean 'toy_image'?"),
        (["train", "toy_image", "--recipe", "a.yaml"], "--recipe: 'a.yaml' is given as well as 'toy_image'; leave one"),
        (["train", "nowhere"], "nowhere: no such recipe file"),
        (["train", "toy_imagee"], "did you mean 'toy_image'?"),
        (["train", "a", "b"], "unexpected extra argument"),
        (["evaluate", "adapter"], "no rows to score; give --data ROWS.jsonl"),
        (["caption", "adapter"], "Missing argument 'FILE'"),
        (["ask", "adapter", "a.png"], "Missing argument 'QUESTION'"),
        (["info"], "Missing argument"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_refused_in_one_line(
    place: Path, refused: Refused, arguments: list[str], message: str
) -> None:
    before = set(place.iterdir())
    assert message in refused(*arguments)
    assert set(place.iterdir()) == before


def test_settings_without_effect_are_refused(adapter: Path, refused: Refused) -> None:
    picture = "pictures/red.png"
    for name, value in (("training.steps", 5), ("adapter.levels", 1), ("data.train", "x"), ("training.seed", 1)):
        for command in (("caption", adapter, picture), ("ask", adapter, picture, "which?")):
            assert f"--{name}: has no effect" in refused(*command, f"--{name}", value)
        assert f"--{name}: has no effect" in refused(
            "evaluate", adapter, "--data", "questions.jsonl", f"--{name}", value
        )
    assert "--generation.num_beams" in refused("info", adapter, "--generation.num_beams", 1)


def test_settings_with_effect_are_taken(adapter: Path, epalm: Command) -> None:
    ask = ("ask", adapter, "pictures/red.png", "which?")
    long = epalm(*ask, "--generation.max_new_tokens=5", "--json").out
    short = epalm(*ask, "--generation.max_new_tokens", 1, "--json").out
    assert len(json.loads(short)["answer"]) < len(json.loads(long)["answer"])
    assert epalm(*ask, "--generation.num_beams", 3, "--model.attn_implementation", "eager").code == 0
    assert epalm(*ask, "--text.answer_mark", " Answer:", "--data.perception_batch", 1).code == 0


def test_words_behind_two_dashes_are_no_settings(adapter: Path, epalm: Command) -> None:
    done = epalm("ask", "--json", "--", adapter, "pictures/red.png", "--what.is this")
    assert done.code == 0
    assert json.loads(done.out)["question"] == "--what.is this"


# -- refusals: recipes, data, adapters -------------------------------------------------------------------------------


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


def test_a_broken_picture_is_named_and_nothing_is_written(place: Path, epalm: Command) -> None:
    Path("pictures/blue.png").write_bytes(Path("pictures/blue.png").read_bytes()[:60])
    for store in ("store", "false"):
        options = ("--data.train", "questions.jsonl", "--output", "out", "--data.store", store)
        done = epalm("train", "recipe.yaml", *options)
        assert done.code == 2
        assert done.err.splitlines()[-1].startswith("epalm: pictures/blue.png: damaged or cut short")
        assert not Path("out").exists()


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


def test_files_without_extension(adapter: Path, epalm: Command) -> None:
    Path("red").write_bytes(Path("pictures/red.png").read_bytes())
    assert epalm("caption", adapter, "red").out == epalm("caption", adapter, "pictures/red.png").out


def test_wrong_adapters_are_refused(adapter: Path, backbones: Path, refused: Refused) -> None:
    ask = ("pictures/red.png", "which?")
    assert "nowhere: no such directory" in refused("ask", "nowhere", *ask)
    assert "pictures: adapter_config.json is missing" in refused("ask", "pictures", *ask)
    assert "adapter_config.json is missing" in refused("info", "pictures")
    other = refused("ask", adapter, *ask, "--model.encoders.image", backbones / "other-vit")
    assert "trained on a image encoder with other weights" in other
    assert "family is llama, the adapter was trained on opt" in refused(
        "ask", adapter, *ask, "--model.language_model", backbones / "llama"
    )
    (adapter / "adapter_model.safetensors").write_bytes(b"\0" * 20)
    assert "adapter_model.safetensors is damaged" in refused("ask", adapter, *ask)


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


# -- refusals: where things go ---------------------------------------------------------------------------------------


def test_an_output_that_cannot_be(place: Path, refused: Refused) -> None:
    Path("file").write_text("mine")
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    Path("loop").symlink_to("nowhere-at-all")
    train = ("train", "recipe.yaml", "--data.train", "questions.jsonl", "--output")
    assert "give --output" in refused(*train[:-1])
    assert "file is there and not a directory" in refused(*train, "file")
    assert "file is there and not a directory" in refused(*train, "file/below/deep")
    assert "loop is there and not a directory" in refused(*train, "loop")
    assert "full holds other files, such as notes.txt" in refused(*train, "full")
    assert "cannot be written: File name too long" in refused(*train, "x" * 300)
    assert "/proc/nowhere cannot be written" in refused(*train, "/proc/nowhere")
    assert Path("file").read_text() == "mine"
    assert sorted(path.name for path in Path("full").iterdir()) == ["notes.txt"]


def test_results_that_cannot_be_written_are_found_before_the_work(adapter: Path, refused: Refused) -> None:
    train = ("train", "recipe.yaml", "--data.train", "questions.jsonl", "--output", "out", "--json")
    evaluate = ("evaluate", adapter, "--data", "questions.jsonl")
    rows = Path("questions.jsonl").read_text()
    for command in (train, (*evaluate, "--json"), (*evaluate, "--predictions")):
        option = command[-1]
        assert f"{option}: there is no directory none" in refused(*command, "none/out.json")
        assert f"{option}: pictures is a directory" in refused(*command, "pictures")
        assert f"{option}: there is no directory questions.jsonl" in refused(*command, "questions.jsonl/x")
        assert f"{option}: questions.jsonl is where" in refused(*command, "questions.jsonl")
        assert "File name too long" in refused(*command, "x" * 300)
        assert "/proc/x.json cannot be written" in refused(*command, "/proc/x.json")
    assert "--json: out/run.json is where --output is" in refused(*train, "out/run.json")
    assert "--predictions: a.json is where --json is" in refused(
        *evaluate, "--json", "a.json", "--predictions", "a.json"
    )
    assert Path("questions.jsonl").read_text() == rows
    assert not Path("out").exists()
    assert sorted(path.name for path in Path().iterdir() if path.name.startswith(".")) == []


def test_a_full_disk_leaves_nothing_half_written(
    adapter: Path, epalm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in adapter.iterdir()}
    done = epalm("evaluate", adapter, "--data", "questions.jsonl", "--json", "/dev/full")
    assert done.code == 2
    assert done.err.splitlines()[-1] == "epalm: --json: /dev/full cannot be written: No space left on device"

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))  # no file may grow beyond: as on a disk that is full
    try:
        for output in ("new", adapter):
            options = ("--data.train", "captions.jsonl", "--output", output)
            done = epalm("train", "recipe.yaml", *options)
            assert done.code == 2
            assert "checkpoints/step-00000004 cannot be written: " in done.err.splitlines()[-1]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not Path("new").exists()
    assert {path.name: path.read_bytes() for path in adapter.iterdir()} == before

    full = os.fdopen(os.open("/dev/full", os.O_WRONLY), "w")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        assert epalm("caption", adapter, "pictures/red.png").code == 2
    with contextlib.suppress(OSError):
        full.close()


def test_results_go_through_pipes_and_links(adapter: Path, epalm: Command) -> None:
    Path("old.json").write_text("old")
    Path("link.json").symlink_to("old.json")
    evaluate = ("evaluate", adapter, "--data", "questions.jsonl", "--json")
    assert epalm(*evaluate, "link.json").code == 0
    assert Path("link.json").is_symlink()
    assert json.loads(Path("old.json").read_text())["rows"] == {"question_answering": 4}
    assert epalm(*evaluate, "/dev/null").code == 0
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_in_the_middle_and_resumed(
    place: Path, epalm: Command, refused: Refused, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    train = ("train", "recipe.yaml", "--data.train", "questions.jsonl", "--output")
    assert epalm(*train, "undisturbed").code == 0
    before = set(place.iterdir())
    steps: list[int] = []
    step = torch.optim.AdamW.step

    def interrupted(self: Any, *args: Any, **kwargs: Any) -> Any:
        steps.append(1)
        if len(steps) == 3:
            signal.raise_signal(number)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", interrupted)
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
    try:
        done = epalm(*train, "out", "--json", "run.json")
    finally:
        signal.signal(signal.SIGINT, inherited)
    assert done.code == code
    assert done.err.splitlines()[-1] == (
        "epalm: stopped after step 3 of 4; what was learned is in out/checkpoints; the same command with --resume "
        "goes on from there"
    )
    assert set(place.iterdir()) == before | {place / "out"}
    assert [path.name for path in Path("out").iterdir()] == ["checkpoints"]

    assert "out holds an unfinished run; go on with it by --resume" in refused(*train, "out")
    assert "training.learning_rate 0.02, now it is 0.01" in refused(
        *train, "out", "--resume", "--training.learning_rate", 0.01
    )
    assert "there is no unfinished run in undisturbed" in refused(*train, "undisturbed", "--resume")
    assert len(steps) == 3
    assert epalm(*train, "out", "--resume", "--json", "run.json").code == 0
    assert len(steps) == 4
    assert {path.name for path in Path("out").iterdir()} == FILES
    assert json.loads(Path("run.json").read_text())["steps"] == 4
    name = "adapter_model.safetensors"
    assert Path("out", name).read_bytes() == Path("undisturbed", name).read_bytes()


def test_a_modality_of_which_nothing_would_be_learned(place: Path, backbones: Path, refused: Refused) -> None:
    train = ("train", "recipe.yaml", "--data.train", "questions.jsonl", "--output", "out")
    message = refused(*train, "--model.encoders.audio", "toyworld/ast")
    assert "model.encoders.audio: no row of questions.jsonl brings audio, so nothing of it would be learned" in message
    assert "model.encoders: 'smell' is none of image, video, audio" in refused(*train, "--model.encoders.smell", "x")
    assert "unknown data set 'nonsense'" in refused(*train, "--data.dataset", "nonsense")
    assert "data.dataset: no split of GQA is used" in refused(*train, "--data.dataset", "gqa", "--data.root", "nowhere")
    assert not Path("out").exists()


def test_an_option_without_its_value(refused: Refused) -> None:
    assert "'--json' requires an argument" in refused("train", "recipe.yaml", "--json")
    assert "no such option --jsn; did you mean '--json'?" in refused("train", "recipe.yaml", "--jsn=1")


def test_a_loss_that_is_not_finite(place: Path, epalm: Command) -> None:
    lm = tiny.save_language_model(place / "lm")
    weights = load_file(lm / "model.safetensors")
    weights["model.decoder.embed_tokens.weight"][tiny.byte_tokenizer()("z")["input_ids"]] = float("nan")
    save_file(weights, lm / "model.safetensors", {"format": "pt"})
    train = ("train", "recipe.yaml", "--model.language_model", lm, "--training.batch_size", 4, "--output", "out")
    tiny.write_lines(Path("z.jsonl"), [{"image": "pictures/red.png", "caption": "z"}])
    done = epalm(*train, "--data.train", "z.jsonl")
    assert done.code == 2
    assert "the loss is nan at step 1; try model.torch_dtype float32" in done.err.splitlines()[-1]
    assert not Path("out").exists()


def test_a_bug_of_ours_leaves_with_1_and_a_traceback(
    adapter: Path, epalm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "stack", lambda *_, **__: 1 / 0)
    done = epalm("caption", adapter, "pictures/red.png")
    assert done.code == 1
    assert "ZeroDivisionError" in done.err
    assert "please report it" in done.err.splitlines()[-1]


def test_a_reader_that_has_seen_enough(adapter: Path, epalm: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    closed = os.fdopen(writer, "w")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", closed)
        done = epalm("caption", adapter, "pictures/red.png")
    assert done.code == 0
    assert "Traceback" not in done.err
    with contextlib.suppress(OSError):
        closed.close()


def test_a_test_split_is_answered_without_scores(adapter: Path, epalm: Command, refused: Refused) -> None:
    rows = tiny.questions()
    tiny.write_lines(Path("test.jsonl"), [{k: v for k, v in row.items() if k != "answer"} for row in rows])
    evaluate = ("evaluate", adapter, "--data", "test.jsonl")
    assert "test.jsonl, row 1: has no answer" in refused(*evaluate)
    done = epalm(*evaluate, "--predictions", "p.jsonl", "--json", "s.json")
    assert done.code == 0
    assert done.out == "question_answering (4 rows): not scored, its rows have no answers\n"
    assert json.loads(Path("s.json").read_text())["scores"] == {}
    assert len(Path("p.jsonl").read_text().splitlines()) == 4
    assert epalm(*evaluate, "--predictions", "p.json", "--results", "vqa").code == 0
    answers = json.loads(Path("p.json").read_text())
    assert [(list(answer), answer["question_id"]) for answer in answers] == [
        (["question_id", "answer"], number) for number in (1, 2, 3, 4)
    ]
    assert "unknown format 'xml' of results" in refused(*evaluate, "--predictions", "p.json", "--results", "xml")
    assert "name a file for them with --predictions" in refused(*evaluate, "--results", "vqa")
    tiny.write_lines(Path("test.jsonl"), [*rows, {"image": "pictures/red.png", "question": "and now?"}])
    assert "test.jsonl, row 5: has no answer or caption, but other rows have" in refused(
        *evaluate, "--predictions", "p.jsonl"
    )


def test_evaluation_names_rows(adapter: Path, refused: Refused) -> None:
    tiny.write_lines(
        Path("long.jsonl"), [*tiny.questions(), {"image": "pictures/red.png", "question": "y" * 80, "answer": "a"}]
    )
    assert "long.jsonl, row 5: its text is 81 tokens long" in refused("evaluate", adapter, "--data", "long.jsonl")
    tiny.write_lines(Path("audio.jsonl"), [{"audio": "pictures/red.png", "question": "what?", "answer": "a"}])
    assert "audio.jsonl, row 1: brings audio" in refused("evaluate", adapter, "--data", "audio.jsonl")
