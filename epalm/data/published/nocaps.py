"""nocaps (Agrawal et al., ICCV 2019): captions of novel objects, scored in, near and out of COCO's domain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from epalm.data.published.base import Item, Layout, LeftOut, Published, register
from epalm.data.published.shapes import read_coco_captions


def _names(image: Any) -> tuple[str, ...]:
    """Pictures are named after Open Images, or by nocaps' own number."""
    return (
        (image["file_name"], f"{image['open_images_id']}.jpg") if "open_images_id" in image else (image["file_name"],)
    )


def _official(split: str, path: Path) -> Iterator[Item | LeftOut]:
    return read_coco_captions(path, names=_names)


NOCAPS = register(
    Published(
        name="nocaps",
        title="nocaps",
        modality="image",
        layouts=(
            Layout(
                "official",
                {
                    "val": ("nocaps_val_4500_captions.json|nocaps_val_image_info.json",),
                    "test": ("nocaps_test_image_info.json",),
                },
                _official,
            ),
        ),
        home="https://nocaps.org/download",
        media_home="Open Images V4, validation and test (the urls are in the annotations)",
        results="coco",
    )
)
