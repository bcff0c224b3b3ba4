"""VQAv2: the official files, and rows with soft scores: Karpathy's splits, and those of LXMERT and its followers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from epalm.data.published.base import Item, Layout, LeftOut, Published, register
from epalm.data.published.files import one_line, read_json
from epalm.data.published.shapes import answers_by_question, labelled_item, read_vqa


def picture_names(part: str, image: int) -> tuple[str, ...]:
    """Names of a COCO picture: as in 2014 and 2015, then as in 2017."""
    return (f"COCO_{part}_{image:012d}.jpg", f"{image:012d}.jpg")


def _official(split: str, questions: Path, annotations: Path | None = None) -> Iterator[Item]:
    part = {"train": "train2014", "val": "val2014"}.get(split, "test2015")
    return read_vqa(questions, annotations, lambda image: picture_names(part, image))


def _rows(split: str, path: Path, annotations: Path | None = None) -> Iterator[Item | LeftOut]:
    """Rows of the original; where the official annotations are there, ten people's answers take the scores' place."""
    answered = {} if annotations is None else answers_by_question(annotations)
    for row in read_json(path):
        names = (f"{row['img_id']}.jpg", f"{row['img_id'].rpartition('_')[2]}.jpg")
        question = str(row["question_id"])
        if question in answered:
            targets, groups = answered[question]
            yield Item(names, one_line(row["sent"]), targets, None, question, groups)
        else:
            yield labelled_item(row, names, soft=True, trained=split in _TRAINED)


_TRAINED = ("karpathy_train", "train", "nominival")
_ANNOTATIONS = "v2_mscoco_{}2014_annotations.json"
_QUESTIONS = "v2_OpenEnded_mscoco_{}_questions.json"

VQAV2 = register(
    Published(
        name="vqav2",
        title="VQAv2",
        modality="image",
        layouts=(
            Layout(
                "official",
                {
                    "train": (_QUESTIONS.format("train2014"), _ANNOTATIONS.format("train")),
                    "val": (_QUESTIONS.format("val2014"), _ANNOTATIONS.format("val")),
                    "test-dev": (_QUESTIONS.format("test-dev2015"),),
                    "test": (_QUESTIONS.format("test2015"),),
                },
                _official,
            ),
            Layout(
                "rows with soft scores",
                {
                    "karpathy_train": ("karpathy_train.json",),
                    # Karpathy's val and test are parts of the official val.
                    "karpathy_val": ("karpathy_val.json", f"{_ANNOTATIONS.format('val')}?"),
                    "karpathy_test": ("karpathy_test.json", f"{_ANNOTATIONS.format('val')}?"),
                    "train": ("train_standard.json|train.json",),
                    "val": ("val_standard.json|val.json", f"{_ANNOTATIONS.format('val')}?"),
                    "nominival": ("nominival.json",),
                    "minival": ("minival.json", f"{_ANNOTATIONS.format('val')}?"),
                },
                _rows,
            ),
        ),
        home="https://visualqa.org/download.html",
        media_home="https://cocodataset.org (train2014, val2014, test2015)",
        results="vqa",
    )
)
