"""MSRVTT-QA (Xu et al., ACM MM 2017): questions about the clips of MSR-VTT."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from epalm.data.published.base import Item, Layout, Published, register
from epalm.data.published.files import stem
from epalm.data.published.video_questions import VIDEO_QUESTIONS_HOME, questions_files, read_questions, rows_layout


def _names(video: int | str) -> tuple[str, ...]:
    """`7010`, or `video7010` with a suffix or without."""
    bare = stem(str(video))
    return (f"video{bare}" if bare.isdecimal() else bare,)


def _official(split: str, path: Path) -> Iterator[Item]:
    return read_questions(path, _names)


MSRVTT_QA = register(
    Published(
        name="msrvtt_qa",
        title="MSRVTT-QA",
        modality="video",
        layouts=(Layout("official", questions_files(), _official), rows_layout("msrvtt_vqa")),
        home=VIDEO_QUESTIONS_HOME,
        media_home="the MSR-VTT videos (https://www.robots.ox.ac.uk/~maxbain/frozen-in-time/data/MSRVTT.zip)",
        results="vqa",
    )
)
