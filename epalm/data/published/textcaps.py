"""TextCaps (Sidorov et al., ECCV 2020), v0.1: captions that read what is written in pictures of Open Images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from epalm.data.published.base import Item, Layout, LeftOut, Published, register
from epalm.data.published.files import captions, read_json
from epalm.data.published.shapes import NO_CAPTION


def _official(split: str, path: Path) -> Iterator[Item | LeftOut]:
    """An entry for each caption, each with all `reference_strs` of its picture; test has none."""
    pictures: set[str] = set()
    for entry in read_json(path)["data"]:
        name = entry["image_id"]
        if name in pictures:
            continue
        pictures.add(name)
        written = entry.get("reference_strs") or []
        targets = captions(written)
        yield Item((f"{name}.jpg",), targets=targets, id=name) if targets or not written else LeftOut(NO_CAPTION)


TEXTCAPS = register(
    Published(
        name="textcaps",
        title="TextCaps",
        modality="image",
        layouts=(Layout("official", {s: (f"TextCaps_0.1_{s}.json",) for s in ("train", "val", "test")}, _official),),
        home="https://textvqa.org/textcaps/dataset/",
        media_home="https://textvqa.org/textcaps/dataset/ (train_val_images, test_images)",
        results="coco",
    )
)
