"""A closed vocabulary: the answers that questions may have, one a line in a file."""

from __future__ import annotations

from pathlib import Path

from epalm.errors import ConfigError
from epalm.tasks.template import on_one_line


def read_answers(path: Path) -> list[str]:
    """The answers in a text file, each once, in its order; blank lines count for nothing.

    Raises:
        ConfigError: the file cannot be read, or there is no answer in it.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(f"generation.answers: {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"generation.answers: {path} is not UTF-8 text (byte {error.start + 1})") from None
    answers = list(dict.fromkeys(on_one_line(line) for line in lines if line.strip()))
    if not answers:
        raise ConfigError(f"generation.answers: {path} holds no answers; write one a line")
    return answers
