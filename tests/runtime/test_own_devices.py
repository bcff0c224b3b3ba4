"""Several processes of a machine: each has a device of its own, and none is named for all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState

from epalm.errors import ConfigError
from epalm.runtime.processes import own_device, processes, require_own_devices

Refused = Callable[..., str]
Command = Callable[..., object]
REASON = (
    "epalm: model.device: 'cuda:0' would put all 2 processes of this machine on one device; leave it out, and each "
    "takes the GPU of its number\n"
)


def test_before_anything_is_loaded(
    place: Path, epalm: Command, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ("--data.train", "questions.jsonl")
    epalm("train", "recipe.yaml", *rows, "--output", "adapter", "--training.steps", 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    nowhere = ("--model.device", "cuda:0", "--model.language_model", "no/such")
    assert refused("train", "recipe.yaml", *rows, "--output", "out", *nowhere) == REASON
    assert refused("features", "build", "recipe.yaml", *rows, *nowhere) == REASON
    assert refused("evaluate", "adapter", "--data", "questions.jsonl", *nowhere) == REASON
    assert refused("ask", "adapter", "pictures/red.png", "which?", *nowhere) == REASON
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("launched", "device", "is_refused"),
    [
        ({"LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4"}, "cuda:1", True),
        ({"WORLD_SIZE": "2"}, "cuda:1", True),
        ({"LOCAL_WORLD_SIZE": "1", "WORLD_SIZE": "4"}, "cuda:0", False),  # one on every machine
        ({}, "cuda:0", False),
        ({"LOCAL_WORLD_SIZE": "2"}, "cuda", False),
        ({"LOCAL_WORLD_SIZE": "2"}, "cpu", False),
        ({"LOCAL_WORLD_SIZE": "2"}, "cpu:0", False),
        ({"LOCAL_WORLD_SIZE": "2"}, None, False),
    ],
)
def test_only_a_device_that_processes_would_share_is_refused(
    monkeypatch: pytest.MonkeyPatch, launched: dict[str, str], device: str | None, is_refused: bool
) -> None:
    for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    if not is_refused:
        require_own_devices(device)
        return
    with pytest.raises(ConfigError, match="would put all 2 processes of this machine on one device"):
        require_own_devices(device)


def test_each_takes_a_gpu_that_it_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    processes()
    monkeypatch.setitem(PartialState._shared_state, "local_process_index", 3)
    for count, own in ((8, 3), (4, 3), (1, 0)):
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        assert own_device(torch.device("cuda")) == torch.device("cuda", own)
        assert own_device(torch.device("cuda", 1)) == torch.device("cuda", 1)
        assert own_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize(
    "environment", [{"WORLD_SIZE": "2"}, {"WORLD_SIZE": ""}, {"LOCAL_RANK": "0"}, {"ACCELERATE_USE_CPU": "maybe"}]
)
def test_an_environment_that_tells_half(
    refused: Refused, place: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "")  # accelerate sets some of them, and has them taken away by this
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    AcceleratorState._reset_state(reset_partial_state=True)
    message = refused("train", "recipe.yaml", "--data.train", "questions.jsonl", "--output", "out")
    AcceleratorState._reset_state(reset_partial_state=True)
    assert message.startswith("epalm: processes: the environment does not tell how they were launched (")
    assert not Path("out").exists()
