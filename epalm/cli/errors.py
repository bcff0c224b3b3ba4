"""What a user of the command line is told when something is wrong: one line, and what to do."""

from __future__ import annotations

import errno
import logging
import os
import sys
from typing import Any

from epalm.errors import is_out_of_memory
from epalm.recipe.overrides import nearest_option

_USERS_TROUBLE = (errno.EACCES, errno.EDQUOT, errno.ENAMETOOLONG, errno.ENOSPC, errno.EPERM, errno.EROFS)


def warn(message: str) -> None:
    """One line that stops nothing; of several processes the main one says it."""
    from epalm.runtime.processes import is_main_process

    if not is_main_process():
        return
    _write_line(message)


def refuse(message: str, code: int = 2) -> int:
    """One line, and the exit code."""
    _write_line(message)
    return code


def _write_line(message: str) -> None:
    """The message as one line of standard error, written at once: lines of other processes cannot come in between."""
    sys.stderr.write(f"epalm: {' '.join(message.split())}\n")
    sys.stderr.flush()


def usage(error: Any) -> str:
    """What is wrong with the command line, in one line, with the nearest option and where to read more."""
    command = error.ctx.command_path if error.ctx else "epalm"
    message = error.format_message().rstrip(".")
    if error.ctx and hasattr(error, "possibilities"):  # of an option that there is not
        option = error.option_name
        options = [name for parameter in error.ctx.command.params for name in parameter.opts if name.startswith("--")]
        message = f"no such option {option}{nearest_option(option, options)}"
    return f"{message} (see {command} --help)"


def users_trouble(error: Exception) -> str | None:
    """What the user can do where neither the input nor the program is at fault; None where it is a bug."""
    if isinstance(error, OSError) and error.errno in _USERS_TROUBLE:
        return f"{error.filename or 'standard output'}: {error.strerror}"
    if is_out_of_memory(error):
        return (
            "out of memory; lower training.batch_size, generation.batch_size or data.perception_batch, or hold the "
            "language model in less (model.quantization, model.shard)"
        )
    return None


def quieten_libraries() -> None:
    """What libraries say in passing belongs in a log, not between a user and an answer."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    for name in ("bitsandbytes", "torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
