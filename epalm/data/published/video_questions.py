"""What MSRVTT-QA and MSVD-QA share: `{train,val,test}_qa.json`, and the rows that the original made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from epalm.data.published.base import Item, Layout, LeftOut
from epalm.data.published.files import one_line, read_json, stem
from epalm.data.published.shapes import labelled_item

VIDEO_QUESTIONS_HOME = "https://github.com/xudejing/video-question-answering"
_SPLITS = ("train", "val", "test")


def read_questions(path: Path, names: Callable[[Any], tuple[str, ...]]) -> Iterator[Item]:
    """Rows {id, video_id, question, answer}; files for a test server may lack the answer."""
    for number, row in enumerate(read_json(path), start=1):
        targets = (one_line(row["answer"]),) if row.get("answer") else ()
        yield Item(names(row["video_id"]), one_line(row["question"]), targets, None, str(row.get("id", number)))


def read_rows(split: str, path: Path) -> Iterator[Item | LeftOut]:
    """Rows {video, question or sent, question_id, label}; `video` is a file's name."""
    for row in read_json(path):
        name = row["video"].rpartition("/")[2]
        yield labelled_item(row, (name, stem(name)), soft=False, trained=split == "train")


def rows_layout(prefix: str) -> Layout:
    """Where the original keeps its rows."""
    return Layout("rows with soft scores", {split: (f"{prefix}_{split}.json",) for split in _SPLITS}, read_rows)


def questions_files(*others: str) -> dict[str, tuple[str, ...]]:
    """Where the official questions lie."""
    return {split: (f"{split}_qa.json", *others) for split in _SPLITS}
