"""Tasks in processes of their own: what they give, what they wait for, and what becomes of them when one fails."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from epalm.toyworld.side_by_side import side_by_side

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Note:
    """Writes its name into a file, with what those wrote that it starts from, and gives its process."""

    name: str
    folder: Path
    starts_from: set[str] = field(default_factory=set)

    def run(self, on_progress: Callable[[str, int, int], None]) -> int:
        on_progress(self.name, 1, 1)
        before = [(self.folder / name).read_text() for name in sorted(self.starts_from)]
        (self.folder / self.name).write_text("+".join([*before, self.name]))
        return os.getpid()


@dataclass(frozen=True)
class Failure:
    """Fails, or would take ten minutes."""

    sleeps: bool
    starts_from: set[str] = field(default_factory=set)

    def run(self, on_progress: Callable[[str, int, int], None]) -> int:
        if self.sleeps:
            time.sleep(600)
        raise RuntimeError("this one fails")


def test_each_begins_when_what_it_starts_from_is_done(tmp_path: Path) -> None:
    progress = []
    tasks = {
        "both": Note("both", tmp_path, {"one", "other"}),
        "one": Note("one", tmp_path),
        "other": Note("other", tmp_path),
    }
    done = side_by_side(tasks, 2, lambda *what: progress.append(what))
    assert done.keys() == tasks.keys()
    assert os.getpid() not in done.values()
    assert (tmp_path / "both").read_text() == "one+other+both"
    assert sorted(progress) == [(name, 1, 1) for name in ("both", "one", "other")]


def test_a_failure_ends_the_others() -> None:
    with pytest.raises(RuntimeError, match="this one fails"):
        side_by_side({"slow": Failure(sleeps=True), "bad": Failure(sleeps=False)}, 2, lambda *what: None)


def test_a_task_that_can_never_begin(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^one: not among the tasks, and others start from it$"):
        side_by_side({"both": Note("both", tmp_path, {"one"})}, 2, lambda *what: None)
