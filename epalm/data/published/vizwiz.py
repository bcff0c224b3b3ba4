"""VizWiz: questions (Gurari et al., CVPR 2018) and captions (Gurari et al., ECCV 2020) of pictures by blind people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from epalm.data.published.base import Item, Layout, LeftOut, Published, register
from epalm.data.published.files import one_line, read_json
from epalm.data.published.shapes import answer_groups, people, read_coco_captions
from epalm.metrics.result_files import counts_as_caption

_SPLITS = ("train", "val", "test")


def _questions(split: str, path: Path) -> Iterator[Item]:
    """A list of {image, question, answers, answer_type}; the ten answers are lacking in test."""
    for entry in read_json(path):
        targets = people(entry["answers"]) if "answers" in entry else ()
        name = entry["image"]
        yield Item((name,), one_line(entry["question"]), targets, None, name, answer_groups(entry))


def _captions(split: str, path: Path) -> Iterator[Item | LeftOut]:
    """COCO's layout; ready-made ("quality issues ...") and rejected captions do not count, as in the challenge."""
    return read_coco_captions(path, keep=counts_as_caption)


VIZWIZ_VQA = register(
    Published(
        name="vizwiz_vqa",
        title="VizWiz-VQA",
        modality="image",
        layouts=(Layout("official", {split: (f"{split}.json",) for split in _SPLITS}, _questions),),
        home="https://vizwiz.org/tasks-and-datasets/vqa/",
        media_home="https://vizwiz.org/tasks-and-datasets/vqa/ (images)",
        results="vizwiz",
    )
)
VIZWIZ_CAPTIONS = register(
    Published(
        name="vizwiz_captions",
        title="VizWiz-Captions",
        modality="image",
        layouts=(Layout("official", {split: (f"{split}.json",) for split in _SPLITS}, _captions),),
        home="https://vizwiz.org/tasks-and-datasets/image-captioning/",
        media_home="https://vizwiz.org/tasks-and-datasets/image-captioning/ (images)",
        results="coco",
    )
)
