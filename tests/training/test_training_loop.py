"""Training: what changes, what must not, and that the same settings give the same numbers."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from accelerate import Accelerator

from epalm.data.file_features import PerceivedFiles
from epalm.data.manifest import read_manifest
from epalm.data.rows import Row
from epalm.errors import ConfigError, DataError, MediaError
from epalm.models import PerceptualLM
from epalm.recipe import Recipe, build_recipe
from epalm.runtime.fingerprint import fingerprint
from epalm.tasks import Tasks
from epalm.training import TrainingLog, train
from epalm.training.batches import Batches
from epalm.training.learner import Learner, parameter_groups
from epalm.training.run import load_model
from epalm.training.schedule import rate_factor, total_steps

MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def recipe(place: Path, backbones: Path) -> MakeRecipe:
    """A short run with some settings changed."""
    return lambda **changes: build_recipe(
        tiny.recipe_values(backbones), {key.replace("__", "."): value for key, value in changes.items()}
    )


def run(recipe: Recipe, manifest: str = "questions.jsonl", **options: Any) -> tuple[PerceptualLM, TrainingLog]:
    model = load_model(recipe)
    tasks = Tasks(model.tokenizer, recipe.text)
    rows = tasks.expand(read_manifest(manifest))
    perceived = PerceivedFiles.of_model(model, keep=recipe.data.store is not False)
    return model, train(model, rows, tasks, recipe.training, perceived=perceived, **options)


def weights(model: PerceptualLM) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.trained_state_dict().items()}


@pytest.mark.parametrize("preset", ["epalm_lin", "epalm_pt", "epalm", "epalm_ada", "text_only"])
def test_loss_falls_and_frozen_weights_stay(recipe: MakeRecipe, preset: str) -> None:
    settings = recipe(adapter__preset=preset, training__steps=25, training__batch_size=4)
    model = load_model(settings)
    frozen = {name: fingerprint(part) for name, part in model.frozen_parts().items()}
    before = weights(model)
    tasks = Tasks(model.tokenizer)
    log = train(model, read_manifest("questions.jsonl"), tasks, settings.training)
    assert len(log.losses) == 25
    assert sum(log.losses[-5:]) / 5 < log.losses[0] - 0.05
    assert {name: fingerprint(part) for name, part in model.frozen_parts().items()} == frozen
    assert not model.training
    assert model.metadata["text"] == tasks.template.model_dump()  # however it is saved, it answers as it was trained
    after = weights(model)
    assert all(not torch.equal(after[name], before[name]) for name in before)
    assert all(parameter.grad is None for part in model.frozen_parts().values() for parameter in part.parameters())


def test_kept_features_and_features_on_the_fly_give_the_same_losses(recipe: MakeRecipe) -> None:
    kept, kept_log = run(recipe(training__steps=6))
    anew, anew_log = run(recipe(training__steps=6, data__store=False))
    assert kept_log.losses == anew_log.losses
    assert all(torch.equal(tensor, weights(anew)[name]) for name, tensor in weights(kept).items())


def test_the_seed_decides(recipe: MakeRecipe) -> None:
    runs = [run(recipe(training__seed=seed), "captions.jsonl") for seed in (3, 3, 4)]
    losses = [log.losses for _, log in runs]
    assert losses[0] == losses[1] != losses[2]
    first, again, other = (weights(model) for model, _ in runs)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_what_happened_before_does_not_matter(recipe: MakeRecipe) -> None:
    _, log = run(recipe())
    torch.manual_seed(99)
    random.seed(99)
    torch.rand(7)
    assert run(recipe())[1].losses == log.losses


def test_steps_and_epochs(recipe: MakeRecipe) -> None:
    def steps(**changes: Any) -> int:
        settings = recipe(**changes).training
        return total_steps(settings, len(Batches(["image"] * 10, settings.batch_size, seed=0)))

    assert steps(training__steps=7) == 7
    assert steps(training__epochs=3, training__batch_size=4) == 9
    assert steps(training__epochs=0.5, training__batch_size=1) == 5
    assert steps(training__epochs=0.01, training__batch_size=4) == 1
    assert steps(training__steps=None, training__batch_size=5, training__min_steps=5) == 6  # 3 epochs
    assert steps(training__steps=None, training__batch_size=5, training__min_steps=90) == 90
    assert steps(training__steps=None, training__batch_size=5, training__min_steps=5, training__min_epochs=8) == 16
    assert steps(training__epochs=3, training__batch_size=5, training__min_steps=90) == 6
    _, log = run(recipe(training__epochs=2, training__batch_size=3), "captions.jsonl")
    assert len(log.losses) == 6  # 8 captions of 4 rows


def test_every_step_is_told(recipe: MakeRecipe) -> None:
    steps: list[tuple[int, int, float]] = []
    progress: list[tuple[str, int, int]] = []
    _, log = run(recipe(), on_step=lambda *step: steps.append(step), on_progress=lambda *call: progress.append(call))
    assert [step for step, _, _ in steps] == [1, 2, 3, 4]
    assert {total for _, total, _ in steps} == {4}
    assert tuple(loss for _, _, loss in steps) == log.losses
    assert progress == [("perceiving image", 4, 4)]
    assert log.seconds > 0


def test_rate_rises_to_its_peak_and_falls_to_its_end() -> None:
    rates = [rate_factor(step, 100, warmup=0.1, final=0.05) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.05)
    assert rate_factor(0, 1, warmup=0.0, final=0.0) == 1  # one step is not lost to warming up
    risen = [rate_factor(step, 100, warmup=0.1, final=0.05, start=0.5) for step in range(11)]
    assert risen[0] == pytest.approx(0.55)
    assert risen[9] == 1


def test_the_prompt_begins_and_ends_at_rates_of_its_own(recipe: MakeRecipe) -> None:
    settings = recipe(
        training__learning_rate=0.2, training__prompt_learning_rate=0.1, training__warmup=0.5,
        training__warmup_start=0.5, training__prompt_warmup_start=1.0,
        training__final_rate=0.05, training__prompt_final_rate=0.1,
    )  # fmt: skip
    model = load_model(settings)
    tasks, perceived = Tasks(model.tokenizer), PerceivedFiles.of_model(model)
    learner = Learner(model, Accelerator(cpu=True), tasks, perceived, settings.training, 4)
    rates: dict[str, list[float]] = {"connector": [], "prompt": []}
    for _ in range(5):
        for group in learner.optimizer.param_groups:
            rates[group["part"]].append(group["lr"])
        learner.optimizer.step()
        learner.schedule.step()
    assert rates["prompt"] == pytest.approx([0.1, 0.1, 0.1, 0.055, 0.01])
    assert rates["connector"][::2] == pytest.approx([0.15, 0.2, 0.2, 0.105, 0.01])


def test_everything_decays_where_it_is_asked_for(recipe: MakeRecipe) -> None:
    model = load_model(recipe())
    groups = parameter_groups(model, recipe(training__decay_on="all", training__weight_decay=0.3).training)
    assert {group["weight_decay"] for group in groups} == {0.3}
    assert sum(len(group["params"]) for group in groups) == len(model.trained_state_dict())


def test_prompt_has_its_own_rate_and_does_not_decay(recipe: MakeRecipe) -> None:
    start = weights(load_model(recipe()))
    single_step = {"training__steps": 1, "training__batch_size": 4, "training__warmup": 0.0}
    still, _ = run(recipe(training__prompt_learning_rate=1e-12, **single_step))
    assert torch.allclose(weights(still)["prompt.weight"], start["prompt.weight"], atol=1e-9)
    assert not torch.allclose(weights(still)["connector.image.0.weight"], start["connector.image.0.weight"], atol=1e-3)
    plain, decayed = (weights(run(recipe(training__weight_decay=decay, **single_step))[0]) for decay in (0.0, 10.0))
    assert torch.equal(plain["prompt.weight"], decayed["prompt.weight"])
    assert torch.equal(plain["connector.image.0.bias"], decayed["connector.image.0.bias"])
    shrunk = plain["connector.image.0.weight"] - 0.2 * start["connector.image.0.weight"]  # rate 0.02 times decay 10
    assert torch.allclose(decayed["connector.image.0.weight"], shrunk, atol=1e-6)


def test_loss_settings_count(recipe: MakeRecipe) -> None:
    def first(**changes: Any) -> float:
        return run(recipe(training__steps=1, training__batch_size=4, **changes))[1].losses[0]

    mean = first()
    assert first(training__loss_scale="original") == pytest.approx(0.1 * mean * 3, rel=1e-5)  # space, letter, end
    assert first(training__loss_on="all") != pytest.approx(mean, rel=1e-3)
    assert first(training__label_smoothing=0.1) != pytest.approx(mean, rel=1e-4)


def test_rows_that_cannot_be_trained_on(recipe: MakeRecipe, place: Path) -> None:
    model = load_model(recipe())
    tasks, settings, picture = Tasks(model.tokenizer), recipe().training, {"image": place / "pictures" / "red.png"}
    before = weights(model)
    for rows, message in (
        ([], "there are no rows to train on"),
        ([Row(picture, "what?", number=7)], "row 7: has no answer or caption to train on"),
        ([Row({"audio": Path("a.wav")}, None, ("a",), number=2)], "row 2: brings audio, but the model perceives image"),
        ([Row(picture, None, ("a" * 64,), number=3)], "row 3: its text with the answer is 66 tokens long"),
        (
            [Row(picture, "q", ("a", "b" * 80), number=n) for n in (4, 4, 5)],
            r"row 4: .* 84 tokens .* \(and 1 more like it\)",
        ),
        ([Row(picture, "q", ("b" * 80,))], r"red\.png: its text with the answer is 84 tokens long"),
    ):
        with pytest.raises(DataError, match=message):
            train(model, rows, tasks, settings)
    with pytest.raises(MediaError, match=r"none\.png: no such file"):
        train(model, [Row({"image": Path("none.png")}, None, ("a",))], tasks, settings)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(model).items())
    longest = Row(picture, None, ("a" * 62,))  # begin of text, 62 letters, end of text
    assert train(model, [longest], tasks, settings).losses


def test_nothing_to_train_is_said(recipe: MakeRecipe) -> None:
    with pytest.raises(ConfigError, match="nothing would be trained"):
        run(recipe(adapter__preset="text_only", adapter__prompt="none"))


def test_smoothed_losses() -> None:
    log = TrainingLog((4.0, 2.0, 6.0, 0.0), 1.0)
    assert log.smoothed(2) == [4.0, 3.0, 4.0, 3.0]
    assert log.smoothed(10)[-1] == 3.0


def test_the_best_adapter_of_a_run_is_the_one_that_stays(recipe: MakeRecipe) -> None:
    settings = recipe(training__steps=12, training__validate_every=2)
    scores = iter([1.0, 5.0, 5.0, 2.0, 3.0, 4.0])
    scored: list[dict[str, torch.Tensor]] = []
    model = load_model(settings)

    def score() -> float:
        assert not model.training
        scored.append(weights(model))
        return next(scores)

    tasks = Tasks(model.tokenizer)
    log = train(model, read_manifest("questions.jsonl"), tasks, settings.training, score=score)
    assert log.scores == ((2, 1.0), (4, 5.0), (6, 5.0), (8, 2.0), (10, 3.0), (12, 4.0))
    assert log.chosen_step == 4  # the first of equals
    assert all(torch.equal(tensor, scored[1][name]) for name, tensor in weights(model).items())
    assert not torch.equal(scored[1]["prompt.weight"], scored[5]["prompt.weight"])


def test_patience_ends_a_run(recipe: MakeRecipe) -> None:
    settings = recipe(training__steps=100, training__validate_every=3, training__patience=2)
    scores = iter([1.0, 3.0, 2.0, 3.0, 9.0])
    model = load_model(settings)
    log = train(
        model, read_manifest("questions.jsonl"), Tasks(model.tokenizer), settings.training, score=lambda: next(scores)
    )
    assert len(log.losses) == 12
    assert log.chosen_step == 6


def test_trackers_are_told(recipe: MakeRecipe, place: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    _, log = run(recipe(training__report_to=["tensorboard"]), log_directory=place / "logs")
    (file,) = (path for path in (place / "logs").rglob("*") if path.is_file())
    logged = events.EventAccumulator(str(file)).Reload()
    assert [event.value for event in logged.Scalars("loss")] == pytest.approx(log.losses)
    assert [event.step for event in logged.Scalars("rate")] == [1, 2, 3, 4]
    (place / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"^training\.report_to: a tracker cannot be started: .*file"):
        run(recipe(training__report_to=["tensorboard"]), log_directory=place / "file")
    with pytest.raises(ConfigError, match=r"there is no tracker 'tensorbord'; did you mean 'tensorboard'\?"):
        run(recipe(training__report_to=["tensorbord"]))


def test_metric_and_patience_need_scores(recipe: MakeRecipe) -> None:
    for name in ("metric", "patience"):
        with pytest.raises(ConfigError, match=r"set training\.validate_every or data\.holdout, too"):
            recipe(**{f"training__{name}": 1 if name == "patience" else "CIDEr"})


def test_lower_layers_kept_give_the_same_losses(recipe: MakeRecipe) -> None:
    changes = {"adapter__preset": "epalm_lin", "adapter__start": 1, "training__steps": 6}
    ordinary, log = run(recipe(**changes))
    kept, kept_log = run(recipe(training__cache_lower_layers=True, **changes))
    assert kept_log.losses == pytest.approx(log.losses, abs=1e-5)
    for name, tensor in weights(ordinary).items():
        assert torch.allclose(weights(kept)[name], tensor, atol=1e-5)
    with pytest.raises(ConfigError, match=r"training\.cache_lower_layers"):
        run(recipe(training__cache_lower_layers=True))


@pytest.mark.slow
def test_compiled_layers_give_the_same_losses(recipe: MakeRecipe) -> None:
    if shutil.which("g++") is None:
        pytest.skip("there is no C++ compiler")
    _, log = run(recipe())
    _, compiled = run(recipe(training__compile=True))
    assert compiled.losses == pytest.approx(log.losses, abs=1e-4)
