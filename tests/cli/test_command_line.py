"""The command line itself: help, wrong options, exit codes, full disks and closed pipes."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from epalm.cli.errors import refuse, warn
from epalm.runtime.progress import show_progress

Command = Callable[..., Any]
Refused = Callable[..., str]


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


def test_help_takes_neither_torch_nor_transformers() -> None:
    code = (
        "import atexit, sys\n"
        "from epalm.cli import main\n"
        "atexit.register(lambda: print(sorted({'torch', 'transformers'} & sys.modules.keys()), file=sys.stderr))\n"
        "main(['--help'])\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "[]\n")
    assert "train" in done.stdout


def test_every_setting_is_listed(epalm: Command) -> None:
    listed = epalm("train", "--settings")
    assert listed.code == 0
    for line in (
        "--model.encoders.NAME TEXT  [image: toyworld/vit]",
        "--adapter.mask causal|legacy  [causal]",
        "--adapter.prompt_tokens WHOLE_NUMBER  [1]",
        "--data.train PATH  [unset]",
        "--data.store PATH|false  [unset]",
        "--training.learning_rate NUMBER  [0.004]",
        "--training.seed WHOLE_NUMBER  [0]",
        "--output PATH  [unset]",
    ):
        assert line in listed.out.splitlines()
    described = listed.out.splitlines()[1::2]
    assert all(line.startswith("    ") and len(line) > 10 for line in described)


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


def test_an_option_without_its_value(refused: Refused) -> None:
    assert "'--json' requires an argument" in refused("train", "recipe.yaml", "--json")
    assert "no such option --jsn; did you mean '--json'?" in refused("train", "recipe.yaml", "--jsn=1")


def test_a_line_is_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes write to one unbuffered stream: text and line feed apart would run their lines together."""
    written: list[str] = []
    monkeypatch.setattr(sys.stderr, "write", written.append)
    warn("one")
    assert refuse("two\nlines") == 2
    with show_progress() as report:
        report("perceiving", 4, 4)
    assert written == ["epalm: one\n", "epalm: two lines\n", "perceiving (4/4)\n"]


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
