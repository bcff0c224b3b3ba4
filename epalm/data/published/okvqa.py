"""OK-VQA (Marino et al., CVPR 2019), v1.1: VQA's layout on COCO pictures; ten answers, made of five people's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from epalm.data.published.base import Item, Layout, Published, register
from epalm.data.published.shapes import read_vqa
from epalm.data.published.vqav2 import picture_names


def _official(split: str, questions: Path, annotations: Path) -> Iterator[Item]:
    return read_vqa(questions, annotations, lambda image: picture_names(f"{split}2014", image))


OKVQA = register(
    Published(
        name="okvqa",
        title="OK-VQA",
        modality="image",
        layouts=(
            Layout(
                "official",
                {
                    split: (f"OpenEnded_mscoco_{split}2014_questions.json", f"mscoco_{split}2014_annotations.json")
                    for split in ("train", "val")
                },
                _official,
            ),
        ),
        home="https://okvqa.allenai.org/download.html",
        media_home="https://cocodataset.org (train2014, val2014)",
        results="vqa",
    )
)
