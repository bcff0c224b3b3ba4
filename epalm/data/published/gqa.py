"""GQA: the official balanced questions, and the rows that LXMERT made of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from epalm.data.published.base import Item, Layout, LeftOut, Published, register
from epalm.data.published.files import one_line, read_json
from epalm.data.published.shapes import labelled_item
from epalm.metrics.result_files import gqa_groups


def _official(split: str, path: Path) -> Iterator[Item]:
    """`{id: {imageId, question, answer}}`; the questions of test have no answer."""
    for row, entry in read_json(path).items():
        targets = (one_line(entry["answer"]),) if "answer" in entry else ()
        yield Item((f"{entry['imageId']}.jpg",), one_line(entry["question"]), targets, None, row, gqa_groups(entry))


def _rows(split: str, path: Path) -> Iterator[Item | LeftOut]:
    for row in read_json(path):
        yield labelled_item(row, (f"{row['img_id']}.jpg",), soft=False, trained=split == "train")


GQA = register(
    Published(
        name="gqa",
        title="GQA",
        modality="image",
        layouts=(
            Layout(
                "official",
                {
                    "train": ("train_balanced_questions.json",),
                    "val": ("val_balanced_questions.json",),
                    "testdev": ("testdev_balanced_questions.json",),
                    "test": ("test_balanced_questions.json",),
                    "challenge": ("challenge_balanced_questions.json",),
                    "submission": ("submission_all_questions.json",),
                },
                _official,
            ),
            Layout(
                "rows with soft scores",
                {"train": ("train.json",), "val": ("valid.json",), "testdev": ("testdev.json",)},
                _rows,
            ),
        ),
        home="https://cs.stanford.edu/people/dorarad/gqa/download.html",
        media_home="https://cs.stanford.edu/people/dorarad/gqa/download.html (images)",
        results="gqa",
    )
)
