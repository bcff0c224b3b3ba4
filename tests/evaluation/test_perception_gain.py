"""What perception is worth: the loss with a row's own input, another's, and none."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from epalm.data.rows import Row
from epalm.errors import ConfigError
from epalm.evaluation import Answerer, PerceptionGain, measure_perception, score_rows
from epalm.evaluation.perception_gain import interval_of_few, measure_loss
from epalm.evaluation.row_losses import MOST_ROWS
from epalm.metrics import Score
from epalm.recipe import build_recipe
from epalm.training import run_recipe

ASKED = ("which?", "which one is it?", "and which?")


def rows_of(folder: Path, names: dict[str, str] | None = None) -> list[Row]:
    """Every colour asked for in three ways; `names`: of each colour the picture that stands for it."""
    names = names or {name: name for name in tiny.COLOURS}
    return [
        Row({"image": folder / "pictures" / f"{picture}.png"}, question, (colour[0],))
        for question in ASKED
        for colour, picture in names.items()
    ]


def train(folder: Path, values: dict[str, Any], rows: list[dict[str, Any]]) -> Answerer:
    tiny.write_lines(folder / "rows.jsonl", rows)
    run_recipe(build_recipe(values, {"data.train": folder / "rows.jsonl", "output": folder / "adapter"}))
    return Answerer.load(folder / "adapter")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gain")
    tiny.save_pictures(folder / "pictures")
    return folder


@pytest.fixture(scope="module")
def seeing(folder: Path, backbones: Path) -> Answerer:
    """Tells the four colours apart."""
    return train(folder, tiny.learning_recipe(backbones), tiny.questions())


def measured(answerer: Answerer, rows: list[Row], **generation: Any) -> PerceptionGain:
    answerer = Answerer(
        answerer.model, answerer.tasks.template, answerer.generation.model_copy(update=generation), data=answerer.data
    )
    gain = measure_perception(answerer, rows)
    assert isinstance(gain, PerceptionGain)
    return gain


def test_what_sees_passes(seeing: Answerer, folder: Path) -> None:
    gain = measured(seeing, rows_of(folder))
    assert gain.perceives
    assert gain.right < min(gain.shuffled, gain.none)
    assert gain.gain.value == pytest.approx(gain.shuffled - gain.right)
    assert gain.gain.low <= gain.gain.value <= gain.gain.high
    assert (gain.rows, gain.of_rows, gain.tokens) == (12, 12, 36)  # a space, a letter and the end


def test_losses_are_those_of_each_row_by_itself(seeing: Answerer, folder: Path) -> None:
    rows = rows_of(folder)
    model, perceived = seeing.model, seeing.feature_source()

    def alone(row: Row, colour: str | None) -> float:
        prompt, target = seeing.tasks.encode(row, random.Random(0))
        ids = torch.tensor([[*prompt, *target]])
        labels = torch.tensor([[-100] * len(prompt) + target])
        features = perceived.of([{"image": folder / "pictures" / f"{colour}.png"}]) if colour else None
        with torch.no_grad():
            return float(model(ids, labels=labels, features=features).loss)

    right = [alone(row, row.media["image"].stem) for row in rows]
    none = [alone(row, None) for row in rows]
    others = [[alone(row, name) for name in tiny.COLOURS if name != row.media["image"].stem] for row in rows]
    found = [measured(seeing, rows, batch_size=size) for size in (1, 5, 64)]
    for gain in found:
        assert gain.right == pytest.approx(sum(right) / len(rows), rel=1e-5)
        assert gain.none == pytest.approx(sum(none) / len(rows), rel=1e-5)
        assert gain.as_dict()["loss"] == pytest.approx(found[0].as_dict()["loss"], rel=1e-5)
    assert sum(map(min, others)) <= len(rows) * found[0].shuffled * 1.0001
    assert sum(map(max, others)) >= len(rows) * found[0].shuffled * 0.9999


def test_what_learned_from_shuffled_files_does_not_pass(folder: Path, backbones: Path) -> None:
    files = [row["image"] for row in tiny.questions()]
    shuffled = [{**row, "image": file} for row, file in zip(tiny.questions(), [*files[1:], files[0]], strict=True)]
    values = tiny.learning_recipe(backbones)
    values["training"]["steps"] = 40
    gain = measured(train(folder, values, shuffled), rows_of(folder))
    assert not gain.perceives
    assert "\ndoes not perceive: " in gain.as_text()


def test_without_perception_it_is_nothing(folder: Path, backbones: Path) -> None:
    values = tiny.learning_recipe(backbones)
    values["adapter"], values["training"]["steps"] = {"preset": "text_only"}, 10
    gain = measured(train(folder, values, tiny.questions()), rows_of(folder))
    assert gain.gain == Score(0.0, 0.0, 0.0)
    assert gain.right == gain.shuffled == gain.none > 0
    assert gain.as_text().endswith(
        "does not perceive: +0.00 nats a token [0.00, 0.00]; it has no connector to perceive by (adapter.preset)"
    )


def test_it_stands_among_the_scores(seeing: Answerer, folder: Path) -> None:
    evaluation = score_rows(seeing, rows_of(folder))
    assert evaluation.perception is not None
    assert evaluation.as_dict()["perception_gain"] == evaluation.perception.as_dict()
    assert evaluation.as_text().endswith(evaluation.perception.as_text())
    red = [row for row in rows_of(folder) if row.targets == ("r",)]
    evaluation = score_rows(seeing, red)
    assert evaluation.perception is None
    why = "no row can be given another row's input: there is one input alone, or answers are too long"
    assert f"not scored: perception_gain: {why}" in evaluation.as_text()
    assert evaluation.as_dict()["not_scored"] == {"perception_gain": why}
    assert "perception_gain" not in score_rows(seeing, red, perception=False).as_dict().get("not_scored", {})


def test_what_is_said_of_it() -> None:
    gain = PerceptionGain(3.138, 3.393, 3.747, Score(0.2551, 0.2449, 0.2751), 500, 5000, 6001)
    losses, verdict = gain.as_text().splitlines()
    assert losses.startswith("perception (500 of 5,000 rows): loss a token 3.138 with the right input, 3.393 with ano")
    assert losses.endswith("ther's, 3.747 with none")
    assert verdict == "perceives: +0.26 nats a token [0.24, 0.28]"
    gain = dataclasses.replace(gain, gain=Score(0.001, 0.0001, 0.004))  # surely something, and as good as nothing
    assert (
        gain.as_text().splitlines()[1].startswith("does not perceive: +0.00 nats a token [0.00, 0.00]; try more steps")
    )
    few = dataclasses.replace(gain, gain=Score(0.3, -0.2, 0.8), rows=4)
    assert few.as_text().endswith(
        "\nmay perceive: +0.30 nats a token [-0.20, 0.80]; 4 rows are too few to tell, give more"
    )
    gain = dataclasses.replace(gain, gain=Score(-0.004, -0.012, 0.011))
    assert "does not perceive: +0.00 nats a token [-0.01, 0.01]; try" in gain.as_text()


@pytest.mark.parametrize("rows", [2, 3, 5])
def test_the_interval_of_few_rows_holds_the_truth_as_often_as_it_says(rows: int) -> None:
    generator = np.random.default_rng(0)
    tries, truth, found = 2000, 0.3, 0
    for _ in range(tries):
        tokens = generator.integers(8, 12, rows).astype(float)
        gains = tokens * generator.normal(truth, 0.5, rows)
        numbers = np.stack([np.zeros(rows), gains, np.zeros(rows), tokens], axis=1)
        interval = interval_of_few(float(gains.sum() / tokens.sum()), numbers)
        assert interval.low <= interval.value <= interval.high
        found += interval.low <= truth <= interval.high
    assert 0.94 < found / tries < 0.97


def test_few_rows_leave_a_wide_interval(seeing: Answerer, folder: Path) -> None:
    """Wider than that of the same rows told three times, by more than the root of their number."""
    few, often = (measured(seeing, rows_of(folder)[:4] * times).gain for times in (1, 3))
    assert few.high - few.low > 2 * (often.high - often.low)
    assert few.low + few.high == pytest.approx(2 * few.value)


def test_the_loss_alone_is_the_one_with_the_right_input(seeing: Answerer, folder: Path) -> None:
    assert measure_loss(seeing, rows_of(folder)) == pytest.approx(measured(seeing, rows_of(folder)).right, rel=1e-6)
    one = measure_loss(seeing, rows_of(folder)[:1])  # nobody need lend it an input
    assert isinstance(one, float)
    assert measure_loss(seeing, [dataclasses.replace(rows_of(folder)[0], targets=())]) == (
        "no row has an answer that the language model has room for"
    )


def test_a_row_counts_by_its_heaviest_answer_and_where_it_has_room(seeing: Answerer, folder: Path) -> None:
    plain = rows_of(folder)
    weighed = [dataclasses.replace(row, targets=("x", *row.targets, "y"), weights=(0.3, 1.0, 1.0)) for row in plain]
    often = [dataclasses.replace(row, targets=("x", *row.targets, *row.targets)) for row in plain]
    first = [dataclasses.replace(row, targets=(*row.targets, "x")) for row in plain]
    wrong = dataclasses.replace(plain[0], weights=(0.0,))
    untold = dataclasses.replace(plain[0], targets=())
    expected = measured(seeing, plain)
    for rows in (weighed, often, first, [*plain, wrong, untold]):
        assert measured(seeing, rows) == expected


def test_answers_without_room_are_left_out(folder: Path, backbones: Path) -> None:
    values = tiny.recipe_values(backbones, "opt", steps=1)
    answerer = train(folder, values, tiny.questions())
    long = dataclasses.replace(rows_of(folder)[0], targets=("r" * tiny.POSITIONS,))
    gain = measured(answerer, [*rows_of(folder), long])
    assert (gain.rows, gain.of_rows) == (12, 13)


def test_of_many_rows_some_are_measured(seeing: Answerer, folder: Path) -> None:
    rows = rows_of(folder) * (2 * MOST_ROWS // 12)
    gain = measured(seeing, rows)
    assert (gain.rows, gain.of_rows) == (MOST_ROWS, len(rows))
    assert gain.right == pytest.approx(measured(seeing, rows_of(folder)).right, rel=0.2)  # every kind of row is met


def test_the_best_adapter_is_told_by_it(place: Path, backbones: Path, answered: list[int]) -> None:
    overrides = {
        "data.train": place / "questions.jsonl",
        "data.validation": place / "questions.jsonl",
        "training.steps": 20,
        "training.validate_every": 5,
        "training.metric": "perception_gain",
        "output": place / "adapter",
    }
    recipe = build_recipe(tiny.learning_recipe(backbones), overrides)
    result = run_recipe(recipe)
    assert [step for step, _ in result.log.scores] == [5, 10, 15, 20]
    assert answered == [4]  # in the end alone
    assert result.evaluation is not None
    assert result.evaluation.perception is not None
    best = max(score for _, score in result.log.scores)
    assert dict(result.log.scores)[result.log.chosen_step or 0] == best
    assert result.evaluation.perception.gain.value == pytest.approx(best)

    with pytest.raises(ConfigError, match=r"^training\.metric: perception_gain cannot be measured on .*: the adapter"):
        run_recipe(build_recipe(tiny.learning_recipe(backbones), {**overrides, "adapter.preset": "text_only"}))
    tiny.write_lines(place / "one.jsonl", tiny.questions()[:1])
    overrides["data.validation"] = place / "one.jsonl"
    with pytest.raises(ConfigError, match=r"one\.jsonl: no row can be given another row's input"):
        run_recipe(build_recipe(tiny.learning_recipe(backbones), overrides))
