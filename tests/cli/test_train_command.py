"""`epalm train`: what a run prints and writes, starts from, and leaves where it is stopped."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml

FILES = {"adapter_config.json", "adapter_model.safetensors", "README.md"}
EVALUATION = {"predictions.jsonl", "scores.json", "settings.json"}
Command = Callable[..., Any]
Refused = Callable[..., str]


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
    printed, note, losses, verdict = done.out.splitlines()
    assert printed == "question_answering (4 rows): exact_match 100.00 [100.00, 100.00]"
    assert note == "in brackets: bootstrap 95 % intervals"
    assert losses.startswith("perception (4 rows): loss a token 0.")
    assert re.fullmatch(r"perceives: \+\d\.\d\d nats a token \[\d\.\d\d, \d+\.\d\d\]", verdict)
    scores = json.loads(Path("s.json").read_text())
    assert scores["scores"] == result["validation"]["scores"]
    assert scores["perception_gain"]["perceives"]
    assert scores["perception_gain"]["loss"] == pytest.approx(result["validation"]["perception_gain"]["loss"])
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


def test_a_broken_picture_is_named_and_nothing_is_written(place: Path, epalm: Command) -> None:
    Path("pictures/blue.png").write_bytes(Path("pictures/blue.png").read_bytes()[:60])
    for store in ("store", "false"):
        options = ("--data.train", "questions.jsonl", "--output", "out", "--data.store", store)
        done = epalm("train", "recipe.yaml", *options)
        assert done.code == 2
        assert done.err.splitlines()[-1].startswith("epalm: pictures/blue.png: damaged or cut short")
        assert not Path("out").exists()


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
