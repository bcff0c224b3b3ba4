"""AudioCaps (Kim et al., NAACL 2019): captions for ten seconds of YouTube recordings, many of which are gone.

Validation and test have five captions each, in rows of their own. Downloads are named in many ways: by the YouTube id,
with the start in seconds or milliseconds, with or without the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from epalm.data.published.base import Item, Layout, LeftOut, Published, register
from epalm.data.published.files import captions, read_csv
from epalm.data.published.msrvtt_captions import read_rows
from epalm.data.published.shapes import NO_CAPTION

_SECONDS = 10


def _names(youtube: str, start: int, audiocap: str) -> tuple[str, ...]:
    end = start + _SECONDS
    timed = (
        f"{youtube}_{start}",
        f"{youtube}_{start}_{end}",
        f"{youtube}_{start}000",
        f"{youtube}_{start}000_{end}000",
    )
    return (*timed, *(f"Y{name}" for name in timed), youtube, f"Y{youtube}", audiocap)


def _official(split: str, path: Path) -> Iterator[Item | LeftOut]:
    """CSV of audiocap_id, youtube_id, start_time, caption; captions of one recording are one row."""
    recordings: dict[tuple[str, int], list[dict[str, str]]] = {}
    for row in read_csv(path):
        recordings.setdefault((row["youtube_id"], int(float(row["start_time"]))), []).append(row)
    for (youtube, start), rows in recordings.items():
        targets = captions(row["caption"] for row in rows)
        names = _names(youtube, start, rows[0]["audiocap_id"])
        yield Item(names, targets=targets, id=f"{youtube}_{start}") if targets else LeftOut(NO_CAPTION)


def _rows(split: str, path: Path) -> Iterator[Item | LeftOut]:
    return read_rows(split, path, "audio")


_SPLITS = ("train", "val", "test")

AUDIOCAPS = register(
    Published(
        name="audiocaps",
        title="AudioCaps",
        modality="audio",
        layouts=(
            Layout("official", {split: (f"{split}.csv|audiocaps_{split}.csv",) for split in _SPLITS}, _official),
            Layout("rows of the original", {split: (f"audiocaps_caption_{split}.json",) for split in _SPLITS}, _rows),
        ),
        home="https://github.com/cdjkim/audiocaps",
        media_home="YouTube, by id and start, ten seconds each",
        results="coco",
    )
)
