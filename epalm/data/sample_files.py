"""Which files of a WebDataset sample count, and as what: one of each kind, told by their endings.

What is before the first dot of a name tells which files belong together, and what is behind it, the ending, what each
holds. Of `00042.jpg` and `00042.seg.png` the picture is the former, whose ending has no dot. Where every ending has one
(`a.1.jpg`, `a.1.txt`, `a.2.jpg`, `a.2.txt`), names have dots of their own: files are then parted at the last dot, if
that makes a whole sample of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from epalm.data.rows import MODALITIES
from epalm.media.suffixes import MODALITY_OF

TEXTS = ("json", "txt")
"""Kinds of files that say something of the others."""


@dataclass(frozen=True)
class SampleFile:
    """One file of a sample."""

    kind: str | None
    """A modality, or one of `TEXTS`; None for what is not read."""
    text: bytes = b""
    """What a text holds."""
    path: Path | None = None
    """Where a medium is now; None if it was empty."""


Files = Mapping[str, SampleFile]
"""By ending, without its first dot; or, once one of each was chosen, by kind."""


class TwoOfAKindError(Exception):
    """Two files of a sample might count. The message names them."""


def kind_of(ending: str) -> str | None:
    """What a file holds whose name ends so."""
    suffix = last_suffix(ending)
    return suffix.removeprefix(".") if suffix[1:] in TEXTS else MODALITY_OF.get(suffix)


def last_suffix(ending: str) -> str:
    """`.png` of `seg.PNG`."""
    return f".{ending.rpartition('.')[2].lower()}"


def choose_files(files: Files) -> dict[str, Files]:
    """What is behind the first dot of the names of a sample -> its files, one of each kind; nothing stands for no dots.

    Raises:
        TwoOfAKindError: it is not clear which count.
    """
    by_start: dict[str, dict[str, SampleFile]] = {}
    for ending, file in files.items():
        by_start.setdefault(ending.rpartition(".")[0], {})[ending] = file
    if "" not in by_start:
        try:
            samples = {start: _one_of_each_kind(each) for start, each in by_start.items()}
        except TwoOfAKindError:
            samples = {}
        if samples and all(map(_is_whole, samples.values())):
            return samples
    return {"": _one_of_each_kind(files)}


def _one_of_each_kind(files: Files) -> Files:
    """Kind -> the file of it whose ending has no dot, or the only one."""
    chosen: dict[str, SampleFile] = {}
    for kind in (*MODALITIES, *TEXTS):
        endings = [ending for ending, file in files.items() if file.kind == kind]
        plain = [ending for ending in endings if "." not in ending] or endings
        if len(plain) > 1:
            raise TwoOfAKindError(f"two files of {kind}, .{plain[0]} and .{plain[1]}")
        chosen.update((kind, files[ending]) for ending in plain)
    return chosen


def _is_whole(chosen: Files) -> bool:
    return any(kind in chosen for kind in MODALITIES) and any(kind in chosen for kind in TEXTS)
