"""Several processes are one run: the same losses, the same adapter, every row scored once."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_media
import tiny_watchers
import torch
import yaml
from safetensors.torch import load_file

SCRIPT = Path(__file__).parent / "processes_script.py"
ROOT = str(Path(__file__).parents[2])
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, backbones: Path) -> Path:
    """A directory with recipes of runs: batches that do not divide evenly, in parts, and of several modalities."""
    folder = tmp_path_factory.mktemp("runs")
    tiny.save_pictures(folder / "pictures")
    tiny_watchers.save("ast", folder / "listener")
    rows = [*tiny.questions(), *tiny.captions()]
    for name, pitch in {"low": 200, "high": 1800}.items():
        sound = tiny_media.save_sound(folder / f"{name}.wav", pitch).name
        rows.append({"audio": sound, "question": "which?", "answer": name[0]})
        rows.append({"audio": sound, "image": "pictures/red.png", "question": "which?", "answer": name})
    tiny.write_lines(folder / "rows.jsonl", rows)
    changes: dict[str, dict[str, Any]] = {
        "plain": {"feature_dropout": 0.5},
        "original": {"loss_scale": "original", "loss_on": "all"},
        "parts": {"accumulation": 2, "feature_dropout": 0.5},
        "unclipped": {"clip": None, "batch_size": 4},
    }
    for name, training in changes.items():
        values = tiny.recipe_values(backbones, steps=10, **{"batch_size": 3, "epochs": None} | training)
        values["model"]["encoders"]["audio"] = str(folder / "listener")
        values["data"] = {"train": str(folder / "rows.jsonl"), "validation": str(folder / "rows.jsonl")}
        if name == "unclipped":
            values["data"]["holdout"] = 0.3  # both set the same files aside, and choose the same step
        for processes in (1, 2):
            values["output"] = str(folder / f"{name}-{processes}")
            (folder / f"{name}-{processes}.yaml").write_text(yaml.safe_dump(values))
    return folder


@pytest.fixture(scope="module")
def results(runs: Path) -> dict[int, list[list[dict[str, Any]]]]:
    """What each process told of every run, by the number of processes."""
    names = ("plain", "original", "parts", "unclipped")
    results = {}
    for processes in (1, 2):
        recipes = [str(runs / f"{name}-{processes}.yaml") for name in names]
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command = [sys.executable, *(launch if processes > 1 else ()), str(SCRIPT), str(runs / "results"), *recipes]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": ROOT}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        results[processes] = [json.loads((runs / f"results.{process}").read_text()) for process in range(processes)]
    return results


@pytest.mark.slow
@pytest.mark.parametrize("run", range(4), ids=["plain", "original", "parts", "unclipped"])
def test_two_processes_come_to_what_one_does(
    runs: Path, results: dict[int, list[list[dict[str, Any]]]], run: int, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    (alone,), (first, second) = results[1], results[2]
    assert first[run] == second[run]  # both know all losses and all predictions
    assert first[run]["chosen"] == alone[run]["chosen"]
    assert first[run]["losses"] == pytest.approx(alone[run]["losses"], abs=1e-5)
    one, two = (load_file(runs / f"{name}-{processes}" / WEIGHTS) for processes in (1, 2))
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[key], two[key], atol=1e-5, rtol=0) for key in one)
    assert first[run]["predictions"] == alone[run]["predictions"]
    assert [identity for identity, _ in first[run]["predictions"]] == [str(row) for row in range(1, 13)]
    assert first[run]["scores"] == alone[run]["scores"]
    assert first[run]["perception"] == pytest.approx(alone[run]["perception"], abs=1e-4)


@pytest.mark.slow
def test_two_machines_come_to_what_one_process_does(runs: Path, results: dict[int, list[list[dict[str, Any]]]]) -> None:
    """Both launchers are on this machine, and know of each other by address and port alone."""
    values = yaml.safe_load((runs / "plain-2.yaml").read_text())
    values["output"] = str(runs / "plain-machines")
    (runs / "plain-machines.yaml").write_text(yaml.safe_dump(values))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": ROOT}
    launchers = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run"),
                *("--nnodes", "2", "--node-rank", str(machine), "--nproc-per-node", "1"),
                *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}"),
                *(str(SCRIPT), str(runs / "machines"), str(runs / "plain-machines.yaml")),
            ],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for machine in range(2)
    ]
    errors = [launcher.communicate(timeout=300)[1] for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [0, 0], errors[0][-2000:] + errors[1][-2000:]
    first, second = (json.loads((runs / f"machines.{process}").read_text())[0] for process in range(2))
    assert first == second
    assert first["losses"] == pytest.approx(results[1][0][0]["losses"], abs=1e-5)
    assert first["predictions"] == results[1][0][0]["predictions"]
    one, two = (load_file(runs / name / WEIGHTS) for name in ("plain-1", "plain-machines"))
    assert all(torch.allclose(one[key], two[key], atol=1e-5, rtol=0) for key in one)


@pytest.mark.slow
def test_parts_of_a_batch_come_to_what_the_whole_does(
    runs: Path, results: dict[int, list[list[dict[str, Any]]]]
) -> None:
    ((plain, _, parts, _),) = results[1]
    assert parts["losses"] == pytest.approx(plain["losses"], abs=1e-5)
    one, two = (load_file(runs / f"{name}-1" / WEIGHTS) for name in ("plain", "parts"))
    assert all(torch.allclose(one[key], two[key], atol=1e-5, rtol=0) for key in one)
