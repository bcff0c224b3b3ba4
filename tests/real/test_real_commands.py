"""Steps of real trainings: run once, measured, stopped in order, and gone on with. The commands are small programs."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time

import pytest

from benchmarks.real.commands import STEPS, CommandError, Step, Steps, StoppedError

APPENDS = "import sys; open(sys.argv[1], 'a').write(' '.join(sys.argv[2:]) + ';')"
WAITS = """
import pathlib, signal, sys, time
folder, signals = pathlib.Path(sys.argv[1]), []
signal.signal(signal.SIGINT, lambda number, frame: signals.append(number))
(folder / "checkpoints").mkdir(parents=True, exist_ok=True)
if "--resume" in sys.argv:
    (folder / "resumed").touch()
    sys.exit(0)
(folder / "ready").touch()
while not signals:
    time.sleep(0.01)
time.sleep(0.2)  # a second signal would come by now
(folder / "checkpoints" / "step-00000001").mkdir()
(folder / "signals").write_text(str(len(signals)))
sys.exit(130)
"""


def program(code, *arguments):
    return [sys.executable, "-c", code, *map(str, arguments)]


def test_a_step_is_run_again_only_if_its_commands_or_what_it_reads_have_changed(tmp_path):
    made, read = tmp_path / "made", tmp_path / "read"
    read.write_text("a")

    def run(word="x"):
        return Steps(tmp_path / "part").run(Step("one", [program(APPENDS, made, word)], made, [read]))

    first = run()
    assert (first.finished, first.attempts) == (True, 1)
    assert first.cpu_seconds > 0
    assert first.seconds > 0
    assert first.peak_memory > 1e6
    assert first.threads > 0
    assert run() == first
    assert made.read_text() == "x;"
    run("y")
    assert made.read_text() == "y;"  # what another command had made is gone
    read.write_text("b")
    os.utime(made, (0, 0))
    run("y")
    assert made.stat().st_mtime > 0
    made.unlink()
    run("y")
    assert made.read_text() == "y;"


def test_a_command_that_fails_is_named_and_run_again(tmp_path, capfd):
    made = tmp_path / "made"
    steps = Steps(tmp_path)
    fails = program(f"{APPENDS}; sys.exit(2)", made, "x")
    with pytest.raises(CommandError, match=r"left with exit code 2, for the reason above; .*what is finished stays"):
        steps.run(Step("one", [fails, program(APPENDS, made, "never")], made))
    assert made.read_text() == "x;"
    assert capfd.readouterr().err.startswith(f"$ {sys.executable} -c ")
    steps.run(Step("one", [program(APPENDS, made, "y")], made))
    assert made.read_text() == "y;"


def test_a_signal_stops_the_command_in_order_and_training_goes_on_where_it_was(tmp_path):
    folder = tmp_path / "adapter"
    step = Step("train", [program(WAITS, folder)], folder, is_training=True)

    def interrupt():
        while not (folder / "ready").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(StoppedError) as stopped:
        Steps(tmp_path).run(step)
    assert stopped.value.exit_code == 130
    assert (folder / "signals").read_text() == "1"
    assert not json.loads((tmp_path / STEPS).read_text())["train"]["finished"]
    record = Steps(tmp_path).run(step)
    assert (folder / "resumed").exists()
    assert (record.finished, record.attempts) == (True, 2)
    assert record.seconds > 0.2  # of both


def test_a_training_of_other_settings_begins_anew(tmp_path):
    folder = tmp_path / "adapter"
    (folder / "checkpoints" / "step-00000001").mkdir(parents=True)
    Steps(tmp_path).run(Step("train", [program("import sys; sys.exit('--resume' in sys.argv)")], folder, (), True))
    assert not folder.exists()
