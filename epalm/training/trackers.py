"""Who is told of a run besides the terminal: accelerate's trackers, such as TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

from epalm.errors import ConfigError
from epalm.settings.nearest import nearest


def require_trackers(names: Sequence[str]) -> None:
    """See that every tracker can be used here.

    Raises:
        ConfigError: there is none of that name, or its package is not installed.
    """
    trackers = [str(name) for name in LOGGER_TYPE_TO_CLASS]
    for name in names:
        if name not in trackers:
            raise ConfigError(f"training.report_to: there is no tracker '{name}'{nearest(name, trackers)}")
        if name not in map(str, get_available_trackers()):
            raise ConfigError(f"training.report_to: {name} is not installed; install it: pip install {name}")


def start_trackers(accelerator: Accelerator) -> None:
    """Have those that `accelerator` was made with begin to write.

    Raises:
        ConfigError: one cannot, for want of a directory, an account, or what else it takes.
    """
    try:
        accelerator.init_trackers("epalm")
    except Exception as error:  # whatever a tracker raises; none of it is ours
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"training.report_to: a tracker cannot be started: {reason}") from None
