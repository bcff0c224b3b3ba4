"""Commands of epalm, each run once: measured, written down, and gone on with where a run was stopped.

A step that is finished is not run again, unless its commands or what they read have changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from benchmarks.machine import device_name
from epalm.errors import EpalmError
from epalm.runtime.outputs import write_whole
from epalm.training.checkpoints import Checkpoints
from epalm.training.output import CHECKPOINTS

STEPS = "steps.json"
"""What a part's directory keeps of its steps."""
_FORWARDED = {signal.SIGINT: signal.SIGINT, signal.SIGTERM: signal.SIGTERM, signal.SIGHUP: signal.SIGTERM}
"""Signal -> what the command at work gets; it saves, and leaves."""
_PEAK_UNIT = 1 if sys.platform == "darwin" else 1024


class StoppedError(EpalmError):
    """The work was stopped by a signal, in order."""

    def __init__(self, number: int) -> None:
        super().__init__("stopped; the same command goes on from here")
        self.exit_code = 128 + number


class CommandError(EpalmError):
    """A command failed; it has said why."""


@dataclass(frozen=True)
class Step:
    """Commands that make one file or directory."""

    name: str
    commands: Sequence[Sequence[str]]
    """Each as a user would type it, from `epalm` on."""
    makes: Path
    reads: Sequence[Path] = ()
    """Files that the result depends on."""
    is_training: bool = False
    """Whether a run that was stopped can be gone on with, by `--resume`."""


@dataclass
class Record:
    """What is known of a step."""

    key: str = ""
    """Of its commands, and of what they read."""
    commands: list[str] = field(default_factory=list)
    finished: bool = False
    seconds: float = 0.0
    """Wall-clock, over all attempts that ended in order; so are the others."""
    cpu_seconds: float = 0.0
    peak_memory: int = 0
    """In bytes."""
    attempts: int = 0
    threads: int = 0
    device: str = ""


class Steps:
    """The steps of one part, in its directory.

    Args:
        folder: of the part; made if it is not there.
        environment: what commands get beside the environment of this process.
    """

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path, self._environment = folder / STEPS, environment or {}
        found = json.loads(self._path.read_text(encoding="utf-8")) if self._path.is_file() else {}
        self.records = {name: Record(**record) for name, record in found.items()}

    def run(self, step: Step) -> Record:
        """Have a step finished.

        Raises:
            CommandError: a command failed.
            StoppedError: a signal came.
        """
        key = digest_of(*(shlex.join(command) for command in step.commands), *step.reads)
        record = self.records.get(step.name, Record())
        if record.finished and record.key == key and step.makes.exists():
            return record
        resumes = step.is_training and record.key == key and Checkpoints(step.makes / CHECKPOINTS).exist()
        if not resumes:
            _remove(step.makes)
            record = Record(key, [shlex.join(command) for command in step.commands])
        record.threads, record.device = torch.get_num_threads(), device_name()
        self._write(step, record)  # so that a run that is killed can be gone on with, too
        last = len(step.commands) - 1
        for number, command in enumerate(step.commands):
            full = [*command, "--resume"] if resumes else list(command)
            used = run_command(full, self._environment)
            record.attempts += 1
            record.seconds += used.seconds
            record.cpu_seconds += used.cpu_seconds
            record.peak_memory = max(record.peak_memory, used.peak_memory)
            record.finished = number == last and used.exit_code == 0
            self._write(step, record)
            if used.signal:
                raise StoppedError(used.signal)
            if used.exit_code:
                raise CommandError(
                    f"`{shlex.join(full)}` left with exit code {used.exit_code}, for the reason above; mend it and run "
                    "this again: what is finished stays"
                )
        return record

    def _write(self, step: Step, record: Record) -> None:
        self.records[step.name] = record
        write_json(self._path, {name: asdict(each) for name, each in self.records.items()})


@dataclass(frozen=True)
class Used:
    """What a command took, and how it ended."""

    exit_code: int
    seconds: float
    cpu_seconds: float
    peak_memory: int
    signal: int = 0
    """That came while it was at work."""


def run_command(command: Sequence[str], environment: dict[str, str] | None = None) -> Used:
    """Run a command, which is shown, to its end; a signal that comes meanwhile goes to the command, once.

    Args:
        command: from `epalm`, or another program, on.
        environment: added to that of this process.
    """
    print(f"$ {shlex.join(command)}", file=sys.stderr, flush=True)
    program = [sys.executable, "-m", "epalm"] if command[0] == "epalm" else [command[0]]
    came: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def forward(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if process is not None:
            process.send_signal(_FORWARDED[signal.Signals(number)])

    before = {number: signal.signal(number, forward) for number in _FORWARDED}
    started = time.perf_counter()
    try:
        # In a session of its own, so that the terminal's Ctrl-C does not come to it a second time: that would end it
        # at once, unsaved.
        process = subprocess.Popen(
            [*program, *command[1:]], env={**os.environ, **(environment or {})}, start_new_session=True
        )
        if came:
            process.send_signal(_FORWARDED[signal.Signals(came[0])])
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return Used(
        process.returncode,
        time.perf_counter() - started,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss * _PEAK_UNIT,
        came[0] if came else 0,
    )


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Whole, or not at all."""
    write_whole(path, [json.dumps(content, indent=2, ensure_ascii=False), "\n"], "OUTPUT")


def digest_of(*parts: Path | str) -> str:
    """Of texts, and of what is in files."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part.encode()
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def _remove(path: Path) -> None:
    """What an earlier attempt made."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
