"""Where a run can go on from: small directories that are whole or not there.

    checkpoints/step-00000500/
        adapter.safetensors     the trained tensors
        optimizer.safetensors   what the optimizer keeps for each of them
        best.safetensors        the trained tensors that scored best so far, if any were scored
        state.json              place, schedule, losses, random states, and the settings of the run
        checksums.json          SHA-256 of the others, written last

Nothing frozen is in them. A directory is written under another name, flushed to the disk and renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from epalm.errors import AdapterError, ConfigError

_CHECKSUMS = "checksums.json"
_STATE = "state.json"
_PREFIX = "step-"
_UNFINISHED = ".part-"


@dataclass(frozen=True)
class Checkpoint:
    """All that a run needs to go on as if it had never stopped."""

    step: int
    """Steps done."""
    tensors: Mapping[str, Mapping[str, Tensor]]
    """Groups of tensors: `adapter`, `optimizer` and, where one was scored, `best`."""
    state: Mapping[str, Any] = field(default_factory=dict)
    """The rest, as JSON has it."""


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run, newest last."""

    directory: Path
    identity: Mapping[str, Any] = field(default_factory=dict)
    """The settings that decide what the run comes to, by dotted name; a run with others must not go on from here."""
    former: Mapping[str, Any] = field(default_factory=dict)
    """What settings count as, by dotted name, in checkpoints that do not name them: those came later."""
    keep: int = 2
    """How many are kept."""

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write one, then drop the oldest beyond `keep`, and later ones, which are damaged or would be in its place.

        Raises:
            AdapterError: it cannot be written; those that are there stay as they are.
        """
        target = self.directory / f"{_PREFIX}{checkpoint.step:08d}"
        part = self.directory / f"{_UNFINISHED}{os.getpid()}"
        created = [folder for folder in (self.directory, *self.directory.parents) if not folder.exists()]
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._sweep(part)
            part.mkdir()
            for name, tensors in checkpoint.tensors.items():
                save_file({key: value.contiguous() for key, value in tensors.items()}, part / f"{name}.safetensors")
            state = {"step": checkpoint.step, "identity": dict(self.identity), **checkpoint.state}
            (part / _STATE).write_text(json.dumps(state), encoding="utf-8")
            checksums = {path.name: _checksum(path) for path in sorted(part.iterdir())}
            (part / _CHECKSUMS).write_text(json.dumps(checksums, indent=1), encoding="utf-8")
            for path in (*part.iterdir(), part):
                _flush(path)
            shutil.rmtree(target, ignore_errors=True)  # a damaged one of the same step
            part.rename(target)
            _flush(self.directory)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(part, ignore_errors=True)
            for folder in created:
                if folder.is_dir():
                    folder.rmdir()
            reason = getattr(error, "strerror", None) or str(error)
            raise AdapterError(
                f"checkpoint: {target} cannot be written: {reason}; the earlier ones are as they were"
            ) from None
        up_to = [path for path in self._all() if path <= target]
        for other in {*self._all()}.difference(up_to[-self.keep :]):
            shutil.rmtree(other, ignore_errors=True)
        return target

    def newest(self, on_warning: Callable[[str], None] = lambda line: None) -> Checkpoint | None:
        """The newest one that is whole.

        Args:
            on_warning: called with a line about each damaged one that is passed over.

        Raises:
            ConfigError: it was written under other settings, or by a later version under one that this has not.
        """
        path, checkpoint = self._newest_whole(on_warning)
        if checkpoint is not None:
            self._require_same(checkpoint.state["identity"], path)
        return checkpoint

    def begun_with(self) -> Mapping[str, Any]:
        """The identity of the run that is there, as it was written; empty where there is none."""
        _, checkpoint = self._newest_whole(lambda line: None)
        return {} if checkpoint is None else checkpoint.state["identity"]

    def exist(self) -> bool:
        """Whether there is one, whole or not."""
        return bool(self._all())

    def clear(self) -> None:
        """Take all away; the run is over."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _all(self) -> list[Path]:
        return sorted(self.directory.glob(f"{_PREFIX}*")) if self.directory.is_dir() else []

    def _sweep(self, part: Path) -> None:
        """What a process that was killed while writing has left."""
        for leftover in (part, *self.directory.glob(f"{_UNFINISHED}*")):
            shutil.rmtree(leftover, ignore_errors=True)

    def _newest_whole(self, on_warning: Callable[[str], None]) -> tuple[Path, Checkpoint | None]:
        paths = self._all()
        for path in reversed(paths):
            try:
                return path, _read(path)
            except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
                instead = "the run begins anew, for there is none before" if path == paths[0] else "the one before"
                on_warning(f"checkpoint: {path} is damaged ({error}) and passed over: {instead}")
        return self.directory, None

    def _require_same(self, identity: Mapping[str, Any], path: Path) -> None:
        saved, current = json.loads(json.dumps([{**self.former, **identity}, dict(self.identity)]))
        changed = sorted(name for name in current if saved.get(name) != current[name])
        if changed:
            name = changed[0]
            more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
            raise ConfigError(
                f"{path}: was written with {name} {saved.get(name)}, now it is {current.get(name)}{more}; "
                "resume with the settings of the run, or give another output"
            )
        # What has a space in its name is no setting: rows that are known late, or not at all in such a run.
        unknown = sorted(name for name in identity if name not in current and " " not in name)
        if unknown:
            raise ConfigError(
                f"{path}: was written with {unknown[0]} {identity[unknown[0]]}, which this version of epalm does not "
                "know; resume with the version that began the run, or give another output"
            )


def _read(path: Path) -> Checkpoint:
    checksums = json.loads((path / _CHECKSUMS).read_text(encoding="utf-8"))
    for name, expected in checksums.items():
        if _checksum(path / name) != expected:
            raise ValueError(f"{name} is not what was written")
    state = json.loads((path / _STATE).read_text(encoding="utf-8"))
    groups = [name for name in checksums if name.endswith(".safetensors")]
    tensors = {name.removesuffix(".safetensors"): load_file(path / name) for name in groups}
    return Checkpoint(state.pop("step"), tensors, state)


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _flush(path: Path) -> None:
    """See that it is on the disk, and not only promised."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
