"""MSR-VTT captions (Xu et al., CVPR 2016): the official files, one like COCO's that comes with the films, and rows.

`MSR_VTT.json`, which lies in the archive of the films, does not say which clip is in which split: their numbers do.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from epalm.data.published.base import Item, Layout, LeftOut, Published, register
from epalm.data.published.files import captions, read_json, stem
from epalm.data.published.shapes import NO_CAPTION

_SPLITS = {"train": "train", "val": "validate", "test": "test"}
_CLIPS = {"train": range(6513), "val": range(6513, 7010), "test": range(7010, 10000)}
"""Numbers of the clips of each split."""


def _official(split: str, path: Path) -> Iterator[Item | LeftOut]:
    content = read_json(path)
    texts: dict[str, list[str]] = {}
    for sentence in content["sentences"]:
        texts.setdefault(sentence["video_id"], []).append(sentence["caption"])
    for video in content["videos"]:
        if video["split"] == _SPLITS[split]:
            name = video["video_id"]
            targets = captions(texts.get(name, ()))
            yield Item((name,), targets=targets, id=name) if targets or not texts else LeftOut(NO_CAPTION)


def _like_coco(split: str, path: Path) -> Iterator[Item | LeftOut]:
    """`annotations` of {image_id, caption}, where the id is the clip's name."""
    texts: dict[str, list[str]] = {}
    for annotation in read_json(path)["annotations"]:
        texts.setdefault(annotation["image_id"], []).append(annotation["caption"])
    for name, written in texts.items():
        if int(name.removeprefix("video")) in _CLIPS[split]:
            targets = captions(written)
            yield Item((name,), targets=targets, id=name) if targets else LeftOut(NO_CAPTION)


def read_rows(split: str, path: Path, media: str = "video") -> Iterator[Item | LeftOut]:
    """Rows {video or audio, caption}: one caption or a list of them; rows of one file are one."""
    texts: dict[str, list[str]] = {}
    for row in read_json(path):
        value = row["caption"]
        texts.setdefault(row[media].rpartition("/")[2], []).extend([value] if isinstance(value, str) else value)
    for name, written in texts.items():
        targets = captions(written)
        yield Item((name, stem(name)), targets=targets, id=stem(name)) if targets else LeftOut(NO_CAPTION)


MSRVTT_CAPTIONS = register(
    Published(
        name="msrvtt_captions",
        title="MSR-VTT captions",
        modality="video",
        layouts=(
            Layout(
                "official",
                {
                    "train": ("MSRVTT_data.json|train_val_videodatainfo.json",),
                    "val": ("MSRVTT_data.json|train_val_videodatainfo.json",),
                    "test": ("MSRVTT_data.json|test_videodatainfo.json",),
                },
                _official,
            ),
            Layout(
                "rows of the original",
                {
                    # Train and validation together.
                    "train7k": ("msrvtt_caption_train7k.json",),
                    "test": ("msrvtt_caption_test.json",),
                },
                read_rows,
            ),
            Layout("like COCO's", dict.fromkeys(_SPLITS, ("MSR_VTT.json",)), _like_coco),
        ),
        home="https://github.com/ArrowLuo/CLIP4Clip/releases/download/v0.0/msrvtt_data.zip (MSRVTT_data.json)",
        media_home="https://www.robots.ox.ac.uk/~maxbain/frozen-in-time/data/MSRVTT.zip",
        results="coco",
    )
)
