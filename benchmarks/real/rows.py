"""The rows of each part: read from the data sets' own manifests, joined, drawn or divided, and written as manifests."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.real.plan import Part
from epalm.data.manifest import read_manifest, write_manifest
from epalm.data.rows import Row
from epalm.errors import ConfigError
from epalm.evaluation.swapping import swapped

PHOTOGRAPHS = ("flickr8k-mini", "flickr8k-more")
"""Data sets that are one together."""
_SHAPES_TO_LEARN, _SHAPES_TO_SCORE = 500, 100
"""Pictures of easy-VQA; each has about ten questions."""
_QUICK_TO_LEARN, _QUICK_TO_SCORE = 20, 8

Divided = tuple[list[Row], list[Row]]
"""Rows to learn from, and rows to score."""


def rows_of(part: Part, data: Path, *, quick: bool = False) -> Divided:
    """The rows of a part.

    Args:
        part: of the plan.
        data: directory of the data sets.
        quick: a few rows of each.

    Raises:
        ConfigError: the data set is not there.
        DataError: its manifest or a file is wrong.
    """
    if part.development:
        train, held_out = _developed(_READERS[part.group](replace(part, rows=None), data)[0], part.rows)
    else:
        train, held_out = _READERS[part.group](part, data)
    if quick:
        train, held_out = _spread(train, _QUICK_TO_LEARN), _spread(held_out, _QUICK_TO_SCORE)
    return _numbered(train), _numbered(held_out)


def write_rows(folder: Path, train: Sequence[Row], held_out: Sequence[Row]) -> None:
    """Write `train.jsonl` and `held_out.jsonl`."""
    write_manifest(train, folder / "train.jsonl")
    write_manifest(held_out, folder / "held_out.jsonl")


def write_shuffled(folder: Path, held_out: Sequence[Row]) -> None:
    """Write `shuffled.jsonl`, the same rows with another row's files, whose answer is another where that can be had."""
    partners = swapped([row.media for row in held_out], [row.targets for row in held_out])
    rows = (
        replace(row, media=held_out[partner].media)
        for row, partner in zip(held_out, partners, strict=True)
        if partner is not None
    )
    write_manifest(rows, folder / "shuffled.jsonl")


def manifest(data: Path, name: str) -> Path:
    """A manifest of a data set.

    Raises:
        ConfigError: it is not there.
    """
    path = data / name
    if not path.is_file():
        raise ConfigError(f"DATA: there is no {path}; docs/real.md says what is to lie there")
    return path


def _developed(rows: Sequence[Row], count: int | None) -> Divided:
    """Training rows divided once more: a sixth is held out, of the others `count` are learned from."""
    held_out = drawn(rows, len(rows) // 6, seed=0) if count is not None else list(rows[5::6])
    others = [row for row in rows if row not in held_out]
    return (others if count is None else drawn(others, count, seed=0)), held_out


def _photographs(part: Part, data: Path) -> Divided:
    train, held_out = (
        [row for name in PHOTOGRAPHS for row in read_manifest(manifest(data, f"{name}/{split}.jsonl"))]
        for split in ("train", "val")
    )
    return train, held_out


def _digits(part: Part, data: Path) -> Divided:
    train, held_out = (
        [_by_speaker(row) for row in read_manifest(manifest(data, f"spoken-digits/{split}.jsonl"))]
        for split in ("train", "val")
    )
    if part.without is not None:
        others = [row for row in train if row.groups["speaker"] != part.without]
        return others, [row for row in (*train, *held_out) if row.groups["speaker"] == part.without]
    return (train if part.rows is None else drawn(train, part.rows, part.seed)), held_out


def _by_speaker(row: Row) -> Row:
    """`5_lucas_15.wav` is said by lucas."""
    return replace(row, groups={"speaker": row.media["audio"].stem.split("_")[1]})


def _sounds(part: Part, data: Path) -> Divided:
    train, held_out = (read_manifest(manifest(data, f"esc10-mini/{split}.jsonl")) for split in ("train", "val"))
    return train, [replace(row, groups={"kind": row.targets[0]}) for row in held_out]


def _shapes(part: Part, data: Path) -> Divided:
    """Questions about the first pictures to learn from, about the last ones to score."""
    rows = read_manifest(manifest(data, "easy-vqa/train.jsonl"))
    pictures = list(dict.fromkeys(row.media["image"] for row in rows))
    learned, scored = set(pictures[:_SHAPES_TO_LEARN]), set(pictures[_SHAPES_TO_LEARN:][-_SHAPES_TO_SCORE:])
    train = [row for row in rows if row.media["image"] in learned]
    return train, [_by_kind(row) for row in rows if row.media["image"] in scored]


def _by_kind(row: Row) -> Row:
    answered_by = "colour" if "color" in (row.question or "") else "shape"
    return replace(row, groups={"kind": "yes or no" if row.targets[0] in ("yes", "no") else answered_by})


_READERS: dict[str, Callable[[Part, Path], Divided]] = {
    "photographs": _photographs, "digits": _digits, "esc10": _sounds, "easy-vqa": _shapes,
}  # fmt: skip


def drawn(rows: Iterable[Row], count: int, seed: int) -> list[Row]:
    """`count` rows by lot, as many of each answer as of any other, as far as there are."""
    by_answer: dict[str, list[Row]] = {}
    for row in rows:
        by_answer.setdefault(row.targets[0], []).append(row)
    rng = random.Random(seed)
    for answer in sorted(by_answer):
        rng.shuffle(by_answer[answer])
    turns = itertools.chain.from_iterable(itertools.zip_longest(*by_answer.values()))
    return [row for row in turns if row is not None][:count]


def _spread(rows: Sequence[Row], count: int) -> list[Row]:
    count = min(count, len(rows))
    return [rows[len(rows) * place // count] for place in range(count)]


def _numbered(rows: Iterable[Row]) -> list[Row]:
    """With ids that are unique where several manifests were joined."""
    return [replace(row, id=str(number)) for number, row in enumerate(rows, start=1)]
