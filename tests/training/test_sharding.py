"""A language model of which two processes hold a half each: the same numbers, files and answers as of a whole one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml
from safetensors.torch import load_file

SCRIPT = Path(__file__).parent / "processes_script.py"
ROOT = str(Path(__file__).parents[2])
WEIGHTS = "adapter_model.safetensors"
STOPPED = "parts"
"""The run that is ended on its way, and gone on with."""
WHOLE = "whole"
"""Two processes, each with the whole language model."""


def launched(processes: int, *arguments: object) -> str:
    """What so many processes print."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes] if processes > 1 else []
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": ROOT}
    command = [*map(str, (sys.executable, *launch, *arguments))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, backbones: Path) -> Path:
    """A directory with recipes: `NAME-1.yaml` for one process, `NAME-2.yaml` for two that share."""
    folder = tmp_path_factory.mktemp("sharded")
    tiny.save_pictures(folder / "pictures")
    rows = [*tiny.questions(), *tiny.captions(), {**tiny.questions()[0], "question": "which colour " + 8 * "or so "}]
    tiny.write_lines(folder / "rows.jsonl", rows)
    (folder / "answers.txt").write_text("r\ng\nb\nwh\n")
    changes: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {
        "plain": ("opt", {"generation": {"num_beams": 3}}),
        STOPPED: ("opt", {"training": {"accumulation": 2, "checkpoint_every": 3}}),
        "levels": ("llama", {"adapter": {"preset": "epalm", "start": 1}, "generation": {"batch_size": 2}}),
        "blocks": (
            "opt",
            {"adapter": {"preset": "epalm_ada", "bottleneck": 2}, "training": {"learning_rate": 0.005}},
        ),
        "ranked": ("opt", {"adapter": {"mask": "legacy"}, "generation": {"answers": str(folder / "answers.txt")}}),
        "int8": ("opt", {"model": {"quantization": "int8"}}),
    }
    for name, (family, groups) in changes.items():
        values = tiny.recipe_values(backbones, family, steps=10, batch_size=3)
        for group, settings in groups.items():
            values[group] |= settings
        values["data"] = {"train": str(folder / "rows.jsonl"), "validation": str(folder / "rows.jsonl")}
        for way in (1, 2, WHOLE):
            values["output"], values["model"]["shard"] = str(folder / f"{name}-{way}"), way == 2
            (folder / f"{name}-{way}.yaml").write_text(yaml.safe_dump(values))
    return folder


NAMES = ("plain", STOPPED, "levels", "blocks", "ranked", "int8")


@pytest.fixture(scope="module")
def results(runs: Path) -> dict[int, list[list[dict[str, Any]]]]:
    """What each process told of every run, by the number of processes."""
    results = {}
    for processes in (1, 2):
        recipes = [str(runs / f"{name}-{processes}.yaml") for name in NAMES]
        if processes == 2:
            recipes[NAMES.index(STOPPED)] += "@7"
            recipes.append(str(runs / f"{NAMES[0]}-{WHOLE}.yaml"))
        launched(processes, SCRIPT, runs / "results", *recipes)
        results[processes] = [json.loads((runs / f"results.{process}").read_text()) for process in range(processes)]
    return results


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_halves_come_to_what_the_whole_does(
    runs: Path, results: dict[int, list[list[dict[str, Any]]]], name: str
) -> None:
    run = NAMES.index(name)
    (alone,), (first, second) = results[1], results[2]
    assert first[run] == second[run]
    assert first[run]["losses"] == pytest.approx(alone[run]["losses"], abs=1e-5)
    one, two = (load_file(runs / f"{name}-{processes}" / WEIGHTS) for processes in (1, 2))
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[key], two[key], atol=1e-5, rtol=0) for key in one)
    assert first[run]["predictions"] == alone[run]["predictions"]
    assert [identity for identity, _ in first[run]["predictions"]] == [str(row) for row in range(1, 10)]
    assert first[run]["scores"] == alone[run]["scores"]
    assert first[run]["perception"] == pytest.approx(alone[run]["perception"], abs=1e-4)
    cards = [json.loads((runs / f"{name}-{processes}" / "adapter_config.json").read_text()) for processes in (1, 2)]
    assert cards[0] == cards[1]
    assert not (runs / f"{name}-2" / "checkpoints").exists()


@pytest.mark.slow
def test_halves_come_to_the_very_bits_of_two_wholes(runs: Path, results: dict[int, list[list[dict[str, Any]]]]) -> None:
    for run in results[2]:
        assert run[0] == run[-1]
    halves, wholes = (runs / f"{NAMES[0]}-{way}" / WEIGHTS for way in (2, WHOLE))
    assert halves.read_bytes() == wholes.read_bytes()


@pytest.mark.slow
def test_a_saved_adapter_answers_on_halves(runs: Path, results: object, epalm: Callable[..., Any]) -> None:
    adapter, rows = runs / "plain-2", runs / "rows.jsonl"  # trained on halves, and like any other
    options = ["evaluate", adapter, "--data", rows, "--no-java", "--generation.batch_size", 2, "--predictions"]
    assert epalm(*options, runs / "one.jsonl").code == 0
    out = launched(2, "-m", "epalm.cli", *options, runs / "two.jsonl", "--model.shard", "true")
    assert (runs / "two.jsonl").read_bytes() == (runs / "one.jsonl").read_bytes()
    assert out.count("question_answering (5 rows)") == 1  # one process tells
    question = ["ask", adapter, runs / "pictures" / "red.png", "which?"]
    assert launched(2, "-m", "epalm.cli", *question, "--model.shard", "true") == epalm(*question).out


_HELD = """
import json, sys, torch
from epalm.errors import ConfigError
from epalm.models import PerceptualLM
from epalm.runtime.processes import processes

held = {}
for shard in (False, True):
    model = PerceptualLM.build(sys.argv[1], config="epalm_lin", encoder_width=5, shard=shard)
    layers = [parameter for layer in model.anatomy.layers for parameter in layer.parameters()]
    held[shard] = sum((p.to_local() if shard else p).nbytes for p in layers)
    frozen = model.summary().frozen
    assert frozen == held.setdefault("frozen", frozen)
    assert model.card() == held.setdefault("card", model.card())
try:
    model.lower_layers()
except ConfigError as error:
    held["refused"] = str(error)
other = PerceptualLM.build(model, config="epalm_lin", encoder_width=5, shard=True)
assert other.language_model is model.language_model
if processes().is_main_process:
    print(json.dumps([held[True] / held[False], held["refused"]]))
"""


@pytest.mark.slow
def test_each_process_holds_its_half(backbones: Path, tmp_path: Path) -> None:
    (tmp_path / "held.py").write_text(_HELD)
    share, refused = json.loads(launched(2, tmp_path / "held.py", backbones / "opt"))
    assert share == pytest.approx(0.5, abs=0.01)
    assert refused.startswith("training.cache_lower_layers: the layers are sharded over processes")


def test_one_process_has_nobody_to_share_with(place: Path, refused: Callable[..., str]) -> None:
    options = ("train", "recipe.yaml", "--data.train", "captions.jsonl", "--output", "out", "--model.shard", "true")
    assert "model.shard: shards the language model over several processes, and there is one" in refused(*options)
    assert "in 8bit cannot be sharded; choose int8 or none" in refused(*options, "--model.quantization", "8bit")
    assert not (place / "out").exists()


@pytest.mark.parametrize("name", ["FSDP", "DeepSpeed"])
def test_what_accelerate_would_make_of_a_model_is_refused(
    place: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{name.upper()}", "true")
    results = refused("train", "recipe.yaml", "--data.train", "captions.jsonl", "--output", "out")
    assert f"{name} is turned on in accelerate's configuration (ACCELERATE_USE_{name.upper()})" in results
    assert "--model.shard true" in results
