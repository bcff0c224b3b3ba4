"""COCO captions: Karpathy's splits, which the literature reports, and the official files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from epalm.data.published.base import Item, Layout, LeftOut, Published, register
from epalm.data.published.shapes import read_coco_captions, read_karpathy


def _official(split: str, path: Path) -> Iterator[Item | LeftOut]:
    return read_coco_captions(path)


COCO_CAPTIONS = register(
    Published(
        name="coco_captions",
        title="COCO captions",
        modality="image",
        layouts=(
            Layout("Karpathy's splits", dict.fromkeys(("train", "val", "test"), ("dataset_coco.json",)), read_karpathy),
            Layout(
                "official",
                {
                    "train2014": ("captions_train2014.json",),
                    "val2014": ("captions_val2014.json",),
                    "test2014": ("image_info_test2014.json",),
                    "train2017": ("captions_train2017.json",),
                    "val2017": ("captions_val2017.json",),
                    "test2017": ("image_info_test2017.json",),
                },
                _official,
            ),
        ),
        home="https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip and https://cocodataset.org",
        media_home="https://cocodataset.org (train2014, val2014)",
        results="coco",
    )
)
