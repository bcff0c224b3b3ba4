"""Stopped anywhere, a run ends as one that never was: checkpoints are whole or not there, and small."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml

from epalm.errors import AdapterError, ConfigError, TrainingStopped
from epalm.models import PerceptualLM, augmented_lm, lower_layers
from epalm.models.lower_layers import LowerLayers
from epalm.recipe import Recipe, build_recipe
from epalm.training import run_recipe
from epalm.training.checkpoints import Checkpoint, Checkpoints

WEIGHTS = "adapter_model.safetensors"
ROOT = str(Path(__file__).parents[2])
NO_COMPILER = shutil.which(os.environ.get("CXX") or {"darwin": "clang++"}.get(sys.platform, "g++")) is None
MakeRecipe = Callable[..., Recipe]


def checkpoint(step: int, value: float = 0.0) -> Checkpoint:
    tensors = {"adapter": {"w": torch.full((2, 3), value)}, "optimizer": {"0.step": torch.tensor(float(step))}}
    return Checkpoint(step, tensors, {"losses": [0.5] * step})


@pytest.fixture
def recipe(place: Path, backbones: Path) -> MakeRecipe:
    def make(output: str, **changes: Any) -> Recipe:
        overrides = {key.replace("__", "."): value for key, value in changes.items()}
        return build_recipe(
            tiny.recipe_values(backbones),
            {"data.train": place / "captions.jsonl", "output": place / output, "training.steps": 12, **overrides},
        )

    return make


class Killed(Exception):
    """Stands for the end of the process."""


def killed_at(step: int) -> Callable[[str, int, int], None]:
    """Progress that ends the run when it is told of that step."""

    def report(what: str, done: int, total: int) -> None:
        if what.startswith("training") and done == step:
            raise Killed

    return report


# -- a run -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 4, 7, 11])
@pytest.mark.parametrize("preset", ["epalm", "epalm_ada"])
def test_resumed_anywhere_it_ends_bit_equal(recipe: MakeRecipe, place: Path, step: int, preset: str) -> None:
    changes = {"adapter__preset": preset, "training__checkpoint_every": 2}
    whole = run_recipe(recipe("whole", **changes))
    with pytest.raises(Killed):
        run_recipe(recipe("out", **changes), killed_at(step))
    resumed = step >= 2
    result = run_recipe(recipe("out", **changes), resume=resumed)
    assert result.log.losses == whole.log.losses
    assert (place / "out" / WEIGHTS).read_bytes() == (place / "whole" / WEIGHTS).read_bytes()
    assert not (place / "out" / "checkpoints").exists()


@pytest.mark.parametrize("step", [3, 5, 9])
@pytest.mark.parametrize(("room", "texts"), [(0, 0), (19, 2), (50, 7)], ids=["none", "few", "many"])
def test_resumed_it_keeps_the_lower_layers_of_the_same_texts(
    recipe: MakeRecipe, place: Path, monkeypatch: pytest.MonkeyPatch, step: int, room: int, texts: int
) -> None:
    """And so ends bit equal, though a text that is kept may differ by a rounding from one that has no room."""
    caches: list[LowerLayers] = []

    class Seen(LowerLayers):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            caches.append(self)

    monkeypatch.setattr(augmented_lm, "LowerLayers", Seen)
    monkeypatch.setattr(lower_layers, "MOST_BYTES", room * 24 * 4)  # tokens
    changes = {
        "adapter__preset": "epalm_lin",
        "adapter__start": 1,
        "training__cache_lower_layers": True,
        "training__checkpoint_every": 2,
        "training__batch_size": 3,
    }
    whole = run_recipe(recipe("whole", **changes))
    cache = caches[-1]
    with pytest.raises(Killed):
        run_recipe(recipe("out", **changes), killed_at(step))
    result = run_recipe(recipe("out", **changes), resume=True)
    assert (cache.full, len(cache._claimed)) == (True, texts)
    assert caches[-1]._claimed == cache._claimed
    assert result.log.losses == whole.log.losses
    assert (place / "out" / WEIGHTS).read_bytes() == (place / "whole" / WEIGHTS).read_bytes()


def test_a_run_in_float16_goes_on_with_its_loss_scale(recipe: MakeRecipe, place: Path) -> None:
    changes = {"model__torch_dtype": "float16", "training__checkpoint_every": 2}
    whole = run_recipe(recipe("whole", **changes))
    assert whole.log.losses[-1] < whole.log.losses[0]
    with pytest.raises(Killed):
        run_recipe(recipe("out", **changes), killed_at(7))
    state = json.loads((place / "out" / "checkpoints" / "step-00000006" / "state.json").read_text())
    assert 1 < state["learner"]["scaler"]["scale"] < 2**16  # the first step overflowed, as it does, and was done again
    assert state["learner"]["scaler"]["_growth_tracker"] == state["learner"]["schedule"] == 6
    assert run_recipe(recipe("out", **changes), resume=True).log.losses == whole.log.losses
    assert (place / "out" / WEIGHTS).read_bytes() == (place / "whole" / WEIGHTS).read_bytes()


def test_resumed_with_scores_on_the_way(recipe: MakeRecipe, place: Path) -> None:
    changes = {
        "data__validation": place / "questions.jsonl",
        "training__checkpoint_every": 3,
        "training__validate_every": 2,
        "training__metric": "exact_match",
    }
    whole = run_recipe(recipe("whole", **changes))
    assert [step for step, _ in whole.log.scores] == [2, 4, 6, 8, 10, 12]
    with pytest.raises(Killed):
        run_recipe(recipe("out", **changes), killed_at(8))
    result = run_recipe(recipe("out", **changes), resume=True)
    assert result.log.scores == whole.log.scores
    assert result.log.chosen_step == whole.log.chosen_step
    assert (place / "out" / WEIGHTS).read_bytes() == (place / "whole" / WEIGHTS).read_bytes()


@pytest.mark.parametrize("scored", [1, 3, 6], ids=["first", "on its way", "last"])
def test_ended_while_it_is_scored_it_is_scored_again(recipe: MakeRecipe, place: Path, scored: int) -> None:
    changes = {"data__validation": place / "questions.jsonl", "training__validate_every": 2}
    whole = run_recipe(recipe("whole", **changes))
    begun: list[int] = []

    def end(what: str, done: int, total: int) -> None:
        if what == "answering":
            begun.append(done)
            if len(begun) == scored:
                raise Killed

    with pytest.raises(Killed):
        run_recipe(recipe("out", **changes), end)
    assert max(path.name for path in (place / "out" / "checkpoints").iterdir()) == f"step-{2 * scored:08d}"
    result = run_recipe(recipe("out", **changes), resume=True)
    assert result.log.scores == whole.log.scores
    assert [step for step, _ in result.log.scores] == [2, 4, 6, 8, 10, 12]
    assert result.log.losses == whole.log.losses
    assert (place / "out" / WEIGHTS).read_bytes() == (place / "whole" / WEIGHTS).read_bytes()


def test_scores_on_the_way_need_rows(recipe: MakeRecipe, place: Path) -> None:
    with pytest.raises(ConfigError, match=r"training\.validate_every: there are no rows to score"):
        run_recipe(recipe("out", training__validate_every=2))
    assert not (place / "out").exists()


def test_a_checkpoint_holds_nothing_frozen(recipe: MakeRecipe, place: Path) -> None:
    with pytest.raises(Killed):
        run_recipe(recipe("out", training__checkpoint_every=2), killed_at(3))
    (folder,) = (place / "out" / "checkpoints").iterdir()
    assert folder.name == "step-00000002"
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert set(sizes) == {"adapter.safetensors", "optimizer.safetensors", "state.json", "checksums.json"}
    trained = 16 * 24 + 24 + 24  # connector and one soft-prompt token
    assert sizes["adapter.safetensors"] < 4 * trained + 1000
    assert sizes["optimizer.safetensors"] < 2 * 4 * trained + 1500


def test_a_damaged_one_is_passed_over_with_a_line(recipe: MakeRecipe, place: Path) -> None:
    changes = {"training__checkpoint_every": 2}
    whole = run_recipe(recipe("whole", **changes))
    with pytest.raises(Killed):
        run_recipe(recipe("out", **changes), killed_at(9))
    old, new = sorted((place / "out" / "checkpoints").iterdir())
    damaged = new / "optimizer.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-8])
    lines: list[str] = []
    steps: list[int] = []
    result = run_recipe(
        recipe("out", **changes),
        lambda what, done, total: steps.append(done) if what.startswith("training") else None,
        resume=True,
        on_warning=lines.append,
    )
    (line,) = lines
    assert str(new) in line
    assert "damaged" in line
    assert steps[0] == int(old.name.removeprefix("step-")) + 1 == 7
    assert result.log.losses == whole.log.losses


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("training__learning_rate", 0.01),
        ("adapter__levels", 1),
        ("training__seed", 1),
        ("text__question_format", "{question} "),
    ],
)
def test_another_run_does_not_go_on_from_it(recipe: MakeRecipe, place: Path, change: str, value: Any) -> None:
    with pytest.raises(Killed):
        run_recipe(recipe("out", training__checkpoint_every=2), killed_at(3))
    with pytest.raises(ConfigError, match="was written with"):
        run_recipe(recipe("out", training__checkpoint_every=2, **{change: value}), resume=True)
    tiny.write_lines(place / "captions.jsonl", tiny.captions()[:3])
    with pytest.raises(ConfigError, match=r"was written with data\.rows"):
        run_recipe(recipe("out", training__checkpoint_every=2), resume=True)
    assert [path.name for path in (place / "out" / "checkpoints").iterdir()] == ["step-00000002"]


@pytest.mark.parametrize(
    "changes",
    [{"data__store_dtype": "float16"}, {"generation__num_beams": 2}, {"data__validation": "captions.jsonl"}],
    ids=["features", "how answers are generated", "what is scored"],
)
def test_what_decides_which_adapter_is_best_must_be_the_same(
    recipe: MakeRecipe, place: Path, changes: dict[str, Any]
) -> None:
    scored = {"training__validate_every": 2, "data__validation": place / "questions.jsonl"}
    with pytest.raises(Killed):
        run_recipe(recipe("out", **scored), killed_at(3))
    with pytest.raises(ConfigError, match="was written with"):
        run_recipe(recipe("out", **scored | changes), resume=True)


def test_other_weights_in_the_same_place_are_noticed(recipe: MakeRecipe, backbones: Path, tmp_path: Path) -> None:
    changes = {"model__encoders": {"image": str(tmp_path / "vit")}, "training__checkpoint_every": 2}
    shutil.copytree(backbones / "vit", tmp_path / "vit")
    with pytest.raises(Killed):
        run_recipe(recipe("out", **changes), killed_at(3))
    shutil.rmtree(tmp_path / "vit")
    tiny.save_encoder(tmp_path / "vit", seed=1)
    with pytest.raises(ConfigError, match=r"was written with model\.weights"):
        run_recipe(recipe("out", **changes), resume=True)


# -- its end ---------------------------------------------------------------------------------------------------------


def test_what_was_learned_outlives_an_adapter_that_cannot_be_written(
    recipe: MakeRecipe, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_recipe(recipe("whole"))
    written = PerceptualLM.save_pretrained

    def full(*args: Any) -> None:
        (place / "out" / ".unfinished-abc").mkdir()  # and what a kill would leave
        raise AdapterError("no room")

    monkeypatch.setattr(PerceptualLM, "save_pretrained", full)
    with pytest.raises(AdapterError, match="no room"):
        run_recipe(recipe("out"))
    monkeypatch.setattr(PerceptualLM, "save_pretrained", written)
    (place / "out" / WEIGHTS).write_bytes(b"half of an adapter, without its configuration")
    taken: list[str] = []
    result = run_recipe(recipe("out"), lambda what, done, total: taken.append(what), resume=True)
    assert not [what for what in taken if what.startswith("training")]
    assert result.log.losses == whole.log.losses
    assert (place / "out" / WEIGHTS).read_bytes() == (place / "whole" / WEIGHTS).read_bytes()
    assert {path.name for path in (place / "out").iterdir()} == {path.name for path in (place / "whole").iterdir()}


@pytest.mark.parametrize("during", ["training", "answering"])
def test_asked_for_at_the_very_end_the_stop_is_heeded(recipe: MakeRecipe, place: Path, during: str) -> None:
    changes = {"data__validation": place / "questions.jsonl", "training__validate_every": 6}
    whole = run_recipe(recipe("whole", **changes))
    learned, asked = [0], []

    def ask(what: str, done: int, total: int) -> None:
        learned.extend([done] if what.startswith("training") else [])
        if learned[-1] == 12 and what.startswith(during) and not asked:
            asked.append(what)
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(TrainingStopped) as stopped:
        run_recipe(recipe("out", **changes), ask)
    assert stopped.value.exit_code == 143
    assert not (place / "out" / WEIGHTS).exists()
    result = run_recipe(recipe("out", **changes), resume=True)
    assert result.log.scores == whole.log.scores
    assert (place / "out" / WEIGHTS).read_bytes() == (place / "whole" / WEIGHTS).read_bytes()


# -- what cannot be is told first --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"training__metric": "exact_matc"},
            "training.metric: 'exact_matc' is not among the scores of .*: exact_match",
        ),
        ({"training__cache_lower_layers": True}, "training.cache_lower_layers: a soft prompt is trained"),
        ({"training__compile": True, "adapter__preset": "epalm_ada"}, "training.compile: block adapters"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_anything_is_perceived(
    recipe: MakeRecipe, place: Path, changes: dict[str, Any], message: str
) -> None:
    calls: list[str] = []
    scored = {"training__validate_every": 2, "data__validation": place / "questions.jsonl"}
    with pytest.raises(ConfigError, match=message):
        run_recipe(recipe("out", **scored | changes), lambda what, done, total: calls.append(what))
    assert not calls
    assert not (place / "out").exists()


# -- the files -------------------------------------------------------------------------------------------------------


def test_they_come_back_as_they_were_and_only_some_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c", {"a.b": 1, "a.c": (2, 3)})
    assert checkpoints.newest() is None
    for step in (5, 10, 15):
        checkpoints.save(checkpoint(step, step / 7))
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["step-00000010", "step-00000015"]
    newest = checkpoints.newest()
    assert newest is not None
    assert newest.step == 15
    assert torch.equal(newest.tensors["adapter"]["w"], torch.full((2, 3), 15 / 7))
    assert newest.state["losses"] == [0.5] * 15


def test_damaged_ones_do_not_take_the_place_of_a_new_one(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (1000, 1500):
        (checkpoints.save(checkpoint(step)) / "checksums.json").write_text("[]")
    lines: list[str] = []
    assert checkpoints.newest(lines.append) is None
    assert [line.partition(" passed over: ")[2] for line in lines] == [
        "the one before",
        "the run begins anew, for there is none before",
    ]
    checkpoints.save(checkpoint(700))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000700"]


@pytest.mark.parametrize("name", ["adapter.safetensors", "state.json", "checksums.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_every_damage_is_noticed(tmp_path: Path, name: str, damage: str) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(checkpoint(1))
    path = checkpoints.save(checkpoint(2)) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    lines: list[str] = []
    newest = checkpoints.newest(lines.append)
    assert newest is not None
    assert newest.step == 1
    assert len(lines) == 1


def test_a_full_disk_leaves_the_old_one(tmp_path: Path) -> None:
    """A limit on the size of files stands for the end of the disk: writing fails there in the same way."""
    script = (
        "import resource, sys, torch\n"
        "from pathlib import Path\n"
        "from epalm.errors import AdapterError\n"
        "from epalm.training.checkpoints import Checkpoint, Checkpoints\n"
        "checkpoints = Checkpoints(Path(sys.argv[1]))\n"
        "one = lambda step: Checkpoint(step, {'adapter': {'w': torch.zeros(100_000)}})\n"
        "checkpoints.save(one(1))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try:\n"
        "    checkpoints.save(one(2))\n"
        "except AdapterError as error:\n"
        "    print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "cannot be written" in run.stdout
    assert "the earlier ones are as they were" in run.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    newest = Checkpoints(tmp_path).newest()
    assert newest is not None
    assert newest.step == 1


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AdapterError, match="cannot be written: "):
        Checkpoints(tmp_path / "file").save(checkpoint(1))


# -- the process is killed -------------------------------------------------------------------------------------------

_FORKS = """
import os, sys
from epalm.recipe import read_recipe
from epalm.training import run_recipe
import epalm.models, transformers.models.opt.modeling_opt, transformers.models.vit.modeling_vit

for line in sys.stdin:  # every line is a run in a process of its own, which need not import all this again
    child = os.fork()
    if not child:
        try:
            run_recipe(read_recipe("recipe.yaml"), resume=line.strip() == "resume")
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.slow
def test_killed_at_twenty_random_points_and_resumed_it_ends_bit_equal(place: Path, backbones: Path) -> None:
    values = tiny.recipe_values(backbones, steps=60, checkpoint_every=1)
    values |= {"data": {"train": "captions.jsonl"}, "output": "out"}
    (place / "recipe.yaml").write_text(yaml.safe_dump(values))
    whole = build_recipe(values | {"data": {"train": place / "captions.jsonl"}, "output": place / "whole"})
    run_recipe(whole)
    rng, folder = random.Random(0), place / "out" / "checkpoints"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": ROOT}
    with subprocess.Popen(
        [sys.executable, "-c", _FORKS], cwd=place, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, bufsize=1,
    ) as forks:  # fmt: skip
        assert forks.stdin is not None
        assert forks.stdout is not None

        def started() -> int:
            print("resume" if list(folder.glob("step-*")) else "begin", file=forks.stdin)
            return int(forks.stdout.readline())

        def newest() -> str:
            return max((path.name for path in folder.glob("step-*")), default="")

        for _ in range(20):
            before, child = newest(), started()
            while newest() == before:  # it is under way, at a place that nobody chose
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.02))
            os.kill(child, signal.SIGKILL)
            assert int(forks.stdout.readline()) == -signal.SIGKILL
        assert newest() > "step-00000019"
        started()
        assert forks.stdout.readline().strip() == "0"
        forks.stdin.close()
    assert (place / "out" / WEIGHTS).read_bytes() == (place / "whole" / WEIGHTS).read_bytes()
    assert {path.name for path in (place / "out").iterdir()} == {WEIGHTS, "adapter_config.json", "README.md"}
    assert json.loads((place / "out" / "adapter_config.json").read_text())["metadata"]["rows"] == 4


# -- compiled ----------------------------------------------------------------------------------------------------------

_COMPILED = """
import sys
from epalm.recipe import read_recipe
from epalm.training import run_recipe

class Ended(Exception):
    pass

def end(what, done, total):
    if what.startswith("training") and done == 5:
        raise Ended

for way in sys.argv[1:]:
    recipe = read_recipe("recipe.yaml", {"output": "whole" if way == "whole" else "out"})
    try:
        run_recipe(recipe, end if way == "ended" else None, resume=way == "resumed")
    except Ended:
        pass
"""


@pytest.mark.slow
@pytest.mark.skipif(NO_COMPILER, reason="there is no C++ compiler here")
def test_a_compiled_run_is_resumed_to_the_bit_in_a_process_that_compiles_anew(place: Path, backbones: Path) -> None:
    values = tiny.recipe_values(backbones, steps=10, batch_size=3, checkpoint_every=2, compile=True)
    tiny.write_lines(place / "rows.jsonl", [*tiny.captions(), *tiny.questions()])
    (place / "recipe.yaml").write_text(yaml.safe_dump(values | {"data": {"train": "rows.jsonl"}}))
    for ways in (("whole", "ended"), ("resumed",)):  # batches of other lengths come first in the second
        own = {"TORCHINDUCTOR_CACHE_DIR": str(place / f"code-{ways[0]}"), "OMP_NUM_THREADS": "1", "PYTHONPATH": ROOT}
        command = [sys.executable, "-c", _COMPILED, *ways]
        done = subprocess.run(command, cwd=place, env=os.environ | own, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
        assert (place / "out" / "checkpoints" / "step-00000004").exists() == ("ended" in ways)
    assert (place / "out" / WEIGHTS).read_bytes() == (place / "whole" / WEIGHTS).read_bytes()
