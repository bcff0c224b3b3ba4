"""The Java programs that scores in the literature come from: whether they are there, and how they are run.

They come with the Python package pycocoevalcap (`pip install "epalm[metrics]"`); nothing of that package but its
jars is used. Whatever is missing is said in one line, and never replaced in silence.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from epalm.errors import ConfigError

_PACKAGE = "pycocoevalcap"
_RELEASES = {
    "stanford-corenlp-3.6.0": "Stanford CoreNLP 3.6.0 "
    "(https://nlp.stanford.edu/software/stanford-corenlp-full-2015-12-09.zip)"
}
"""Start of the names of jars that do not come with that package -> the release that holds them."""


@lru_cache(maxsize=1)
def find_java() -> str | None:
    """The Java runtime on the search path, if it runs; some systems have a `java` that only says where to get one."""
    program = shutil.which("java")
    if program is None:
        return None
    tried = subprocess.run([program, "-version"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return program if tried.returncode == 0 else None


def find_jar(inside: str) -> Path | None:
    """A file of pycocoevalcap by its path inside the package, if it is there."""
    package = importlib.util.find_spec(_PACKAGE)
    places = package.submodule_search_locations if package is not None else None
    return next((Path(place, inside) for place in places or () if Path(place, inside).is_file()), None)


def why_not(*jars: str) -> str | None:
    """Why programs made of `jars` cannot run, and what to do; None where they can."""
    if find_java() is None:
        return "there is no Java runtime; install one, so that `java -version` works"
    if find_jar(jars[0]) is None:
        return f'{Path(jars[0]).name} is not there; pip install "epalm[metrics]"'
    missing = next((jar for jar in jars if find_jar(jar) is None), None)
    if missing is not None:
        name, place = Path(missing).name, _folder(jars[0]) / Path(missing).parent.name
        release = next((f", out of {release}" for start, release in _RELEASES.items() if name.startswith(start)), "")
        return f"{name} is not there; put it into {place}{release}"
    return None


def run_java(what: str, arguments: Sequence[str], jars: Sequence[str], text: str = "") -> str:
    """What a program made of `jars` writes when it is given `text`.

    Args:
        what: names it in messages.
        arguments: after `java`; run in the first jar's own directory, where it finds its data.
        jars: their paths inside pycocoevalcap.
        text: standard input, UTF-8.

    Raises:
        ConfigError: Java or a jar is missing, or the program fails.
    """
    reason = why_not(*jars)
    if reason is not None:
        raise ConfigError(f"{what}: {reason}")
    done = subprocess.run(
        [str(find_java()), *arguments], input=text.encode(), capture_output=True, check=False, cwd=_folder(jars[0])
    )
    if done.returncode != 0:
        stderr = done.stderr.decode(errors="replace").strip().splitlines()
        raise ConfigError(f"{what}: Java failed: {stderr[0] if stderr else f'exit code {done.returncode}'}")
    return done.stdout.decode()


def _folder(jar: str) -> Path:
    found = find_jar(jar)
    assert found is not None
    return found.parent
