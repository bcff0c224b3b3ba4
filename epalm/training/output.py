"""The directory of a run: what may be in it before, and where things go."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from epalm.errors import ConfigError
from epalm.evaluation.record import FILES
from epalm.models.adapter_io import CARD_FILE, CONFIG_FILE, TENSOR_FILE, UNFINISHED
from epalm.training.checkpoints import Checkpoints

CHECKPOINTS = "checkpoints"
"""Where in the output directory an unfinished run is kept."""
LOGS = "logs"
"""Where in the output directory trackers write."""


def named_output(output: Path | None) -> Path:
    """Where the adapter goes.

    Raises:
        ConfigError: that is not said.
    """
    if output is None:
        raise ConfigError("output: nowhere to write the adapter to; give --output DIR")
    return output


def require_resumable(output: Path, resume: bool) -> None:
    """See that an unfinished run is gone on with only where that is asked for.

    Raises:
        ConfigError: it is not, or there is none.
    """
    unfinished = Checkpoints(output / CHECKPOINTS).exist()
    if resume and not unfinished:
        raise ConfigError(f"--resume: there is no unfinished run in {output}; leave it out to begin one")
    if unfinished and not resume:
        raise ConfigError(
            f"output: {output} holds an unfinished run; go on with it by --resume, or delete {output / CHECKPOINTS}"
        )


def require_writable(output: Path) -> None:
    """See that it is a new or empty directory, or one that holds an earlier adapter or run, and can be written.

    Raises:
        ConfigError: it is not.
    """
    created: list[Path] = []
    try:
        names = {path.name for path in output.iterdir()} if os.path.isdir(output) else set()  # noqa: PTH112
        others = {name for name in names if not name.startswith(UNFINISHED)} - {CHECKPOINTS, LOGS, *FILES}
        if CHECKPOINTS in names:  # the run may have ended while it wrote its adapter
            others -= {TENSOR_FILE, CARD_FILE}
        if others and CONFIG_FILE not in names:
            raise ConfigError(
                f"output: {output} holds other files, such as {min(others)}; give a new or empty directory"
            )
        for folder in (*reversed(output.parents), output):  # made, tried and taken away again
            if not os.path.isdir(folder):  # noqa: PTH112
                folder.mkdir()
                created.append(folder)
        with tempfile.TemporaryDirectory(dir=output, prefix=UNFINISHED):
            pass
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(f"output: {error.filename} is not a directory; give another") from None
    except OSError as error:
        raise ConfigError(f"output: {output} cannot be written: {error.strerror}") from None
    finally:
        for folder in reversed(created):
            folder.rmdir()
