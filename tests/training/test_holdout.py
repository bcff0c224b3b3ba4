"""Files that are set aside: which, and the adapter that they choose."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from PIL import Image

from epalm.data.manifest import read_manifest
from epalm.data.rows import Row
from epalm.errors import ConfigError, MediaError
from epalm.recipe import Recipe, build_recipe
from epalm.training import run_recipe
from epalm.training.feature_building import build_features
from epalm.training.holdout import set_aside
from epalm.training.rows import RowSource

WEIGHTS = "adapter_model.safetensors"
FILES = 20
MakeRecipe = Callable[..., Recipe]


def parted(rows: list[Row], share: float = 0.1, seed: int = 0, **encoders: str) -> tuple[tuple[Row, ...], ...]:
    overrides = {"data.holdout": share, "training.seed": seed, "model.encoders": encoders or {"image": "vit"}}
    left, held = set_aside(RowSource(tuple(rows), "rows.jsonl"), build_recipe({}, overrides))
    return left.rows, held.rows


def pictures(number: int, **media: str) -> list[Row]:
    """Three rows a picture, all first rows before all second ones."""
    return [
        Row({"image": Path(f"{picture}.png"), **{name: Path(file) for name, file in media.items()}}, question, ("a",))
        for question in (None, "which?", "and which?")
        for picture in range(number)
    ]


# -- which files -----------------------------------------------------------------------------------------------------


def test_all_rows_of_a_file_go_together() -> None:
    rows = pictures(40)
    left, held = parted(rows)
    assert len(held) == 3 * 4
    assert {row.media["image"] for row in left}.isdisjoint(row.media["image"] for row in held)
    assert [row for row in rows if row in held] == list(held)  # in their order
    assert [row for row in rows if row not in held] == list(left)
    assert parted(rows) == (left, held)
    assert parted(rows, seed=1) != (left, held)
    assert {str(row.media["image"]) for seed in range(60) for row in parted(rows, seed=seed)[1]} == {
        f"{picture}.png" for picture in range(40)
    }


def test_rows_that_share_a_file_by_way_of_others_go_together() -> None:
    chain = [
        Row({"image": Path(f"{place}.png"), "audio": Path(f"{place + step}.wav")}, "which?", ("a",))
        for place in (0, 3, 6, 9, 12, 15)
        for step in (0, 1)
    ]
    chain += [Row({"audio": Path(f"{place + 1}.wav")}, "which?", ("a",)) for place in (0, 3, 6, 9, 12, 15)]
    for seed in range(8):
        left, held = parted(chain, 0.5, seed, image="vit", audio="ast")
        assert 0 < len(held) < len(chain)
        assert {file for row in left for file in row.media.values()}.isdisjoint(
            file for row in held for file in row.media.values()
        )
    silent = [Row({**row.media, "audio": Path("silence.wav")}, row.question, ("a",)) for row in pictures(10)]
    assert len(parted(silent, 0.3, image="vit")[1]) == 3 * 3  # a file that is not perceived links nothing
    with pytest.raises(ConfigError, match=r"^data\.holdout: of the files of rows\.jsonl none can be set aside"):
        parted(silent, 0.3, image="vit", audio="ast")
    asked = [Row({}, question, ("a",)) for question in ("one?", "two?") for _ in range(2)]
    assert len({row.question for row in parted(asked, 0.5)[1]}) == 1


def test_both_sides_have_something_and_every_modality_is_learned() -> None:
    for share, held_files in ((0.01, 1), (0.99, 2)):
        left, held = parted(pictures(3), share)
        assert len({row.media["image"] for row in held}) == held_files
        assert left
    sounds = [Row({"audio": Path(f"{name}.wav")}, "which?", ("a",)) for name in "ab"]
    for seed in range(8):
        left, held = parted([*pictures(20), *sounds], 0.9, seed, image="vit", audio="ast")
        assert {name for row in left for name in row.media} == {"image", "audio"}
        assert {name for row in held for name in row.media} == {"image", "audio"}
    with pytest.raises(ConfigError, match=r"rows\.jsonl none can be set aside .*; give more files, or leave"):
        parted(pictures(1))
    for share in (0, 1, -0.1, "half"):
        with pytest.raises(ConfigError, match=r"data\.holdout"):
            build_recipe({}, {"data.holdout": share})


# -- what they choose ------------------------------------------------------------------------------------------------


@pytest.fixture
def recipe(place: Path, backbones: Path) -> MakeRecipe:
    """Twenty pictures, of which four are set aside."""
    Path("shades").mkdir()
    for number in range(FILES):
        colour = [*tiny.COLOURS.values()][number % 4]
        Image.new("RGB", (20, 12), tuple(max(0, part - number) for part in colour)).save(f"shades/{number}.png")
    rows = [
        {"image": f"shades/{number}.png", "question": question, "answer": [*tiny.COLOURS][number % 4][0]}
        for number in range(FILES)
        for question in ("which?", "and which?")
    ]
    tiny.write_lines(place / "shades.jsonl", rows)

    def make(output: str, **changes: Any) -> Recipe:
        values = tiny.learning_recipe(backbones)
        values["training"] |= {"steps": 20, "learning_rate": 0.02}
        overrides = {key.replace("__", "."): value for key, value in changes.items()}
        data = {"data.train": place / "shades.jsonl", "data.holdout": 0.2, "output": place / output}
        return build_recipe(values, {**data, **overrides})

    return make


class Killed(Exception):
    """Stands for the end of the process."""


def test_the_loss_on_them_chooses_and_validation_rows_have_no_say(
    recipe: MakeRecipe, place: Path, answered: list[int]
) -> None:
    result = run_recipe(recipe("out", data__validation=place / "questions.jsonl"))
    assert answered == [4]  # in the end alone
    assert [step for step, _ in result.log.scores] == list(range(2, 21, 2))  # a tenth of the steps
    step, loss = min(result.log.scores, key=lambda scored: scored[1])
    choice = {"step": step, "score": loss, "metric": "loss", "holdout": 0.2, "rows": 8, "files": 4}
    assert result.as_dict()["choice"] == {**choice, "scores": result.log.scores}
    assert f"\nchosen: step {step}, loss {loss:.3f} on 8 rows of 4 training files, held out\n" in result.as_text()
    metadata = json.loads((place / "out" / "adapter_config.json").read_text())["metadata"]
    assert metadata["choice"] == choice
    assert metadata["rows"] == 2 * FILES - 8
    without = run_recipe(recipe("without", data__validation=None))
    assert without.log == type(without.log)(**{**vars(result.log), "seconds": without.log.seconds})
    assert (place / "out" / WEIGHTS).read_bytes() == (place / "without" / WEIGHTS).read_bytes()


def test_epochs_count_what_is_left_and_patience_and_the_gain_work(recipe: MakeRecipe) -> None:
    settings = {"training__steps": None, "training__epochs": 2, "training__metric": "perception_gain"}
    result = run_recipe(recipe("out", **settings, training__patience=1, training__validate_every=4))
    assert result.choice is not None
    last = result.log.scores[-1][0]
    assert len(result.log.losses) == last <= 2 * (2 * FILES - 8) // 4
    assert last in (result.choice.step + 4, 16)
    assert result.choice.score == max(score for _, score in result.log.scores)
    blind = recipe("blind", adapter__preset="text_only", training__steps=2)
    assert run_recipe(blind).choice is not None  # a loss is had without perception, too
    with pytest.raises(
        ConfigError, match=r"perception_gain cannot be measured on .*shades\.jsonl \(held out\): the ad"
    ):
        run_recipe(recipe("gain", adapter__preset="text_only", training__metric="perception_gain"))


def test_resumed_it_is_the_same_run(recipe: MakeRecipe, place: Path) -> None:
    def end(what: str, done: int, total: int) -> None:
        if what.startswith("training") and done == 13:
            raise Killed

    whole = run_recipe(recipe("whole"))
    with pytest.raises(Killed):
        run_recipe(recipe("out"), end)
    for changes, message in (
        ({"data__holdout": 0.3}, r"was written with data\.(rows|holdout)"),
        ({"data__holdout": None}, r"was written with "),
        ({"training__metric": "perception_gain"}, r"was written with training\.metric loss, now it is perception_gain"),
    ):
        if changes.get("data__holdout", 1) is None:
            changes |= {"training__validate_every": 2, "data__validation": place / "questions.jsonl"}
        with pytest.raises(ConfigError, match=message):
            run_recipe(recipe("out", **changes), resume=True)
    result = run_recipe(recipe("out", training__metric="loss"), resume=True)  # what it is, unset
    assert result.log.scores == whole.log.scores
    assert result.choice == whole.choice
    for name in (WEIGHTS, "adapter_config.json"):
        assert (place / "out" / name).read_bytes() == (place / "whole" / name).read_bytes()


def test_they_are_seen_as_evaluation_sees_and_built_ahead(recipe: MakeRecipe, place: Path) -> None:
    views = {"data__views": 2, "data__augment": "flip", "data__store": place / "store", "training__steps": 2}
    seen: dict[str, int] = {}

    def note(what: str, done: int, total: int) -> None:
        if what.endswith("image"):
            seen[what] = seen.get(what, 0) + (done == total) * total

    build_features(recipe("out", **views), note)
    assert sum(seen.values()) == 4 + 2 * (FILES - 4)
    seen.clear()
    run_recipe(recipe("out", **views), note)
    assert not sum(seen.values())


def test_those_that_cannot_be_read_are_skipped_as_others_are(recipe: MakeRecipe, place: Path) -> None:
    skip = {"data__on_bad_media": "skip", "data__most_bad_media": 0.5, "training__steps": 2}
    whole = run_recipe(recipe("whole", **skip))
    held = json.loads((place / "whole" / "adapter_config.json").read_text())["metadata"]["choice"]
    assert held["files"] == 4
    assert not whole.skipped.rows
    _, aside = set_aside(RowSource(tuple(read_manifest(place / "shades.jsonl"))), recipe("out"))
    files = list(dict.fromkeys(row.media["image"] for row in aside.rows))
    files[0].write_bytes(b"")
    result = run_recipe(recipe("out", **skip))
    assert list(result.skipped.files) == files[:1]
    assert result.skipped.rows == 2
    assert result.choice is not None
    assert (result.choice.rows, result.choice.files) == (6, 3)
    assert result.log.losses == whole.log.losses  # what is learned from is the same
    for file in files:
        file.write_bytes(b"")
    with pytest.raises(MediaError, match=r"cannot be read, and of the rows held out \(data\.holdout\) none is left"):
        run_recipe(recipe("out", **skip))
