"""VATEX (Wang et al., ICCV 2019): ten English captions for each clip of Kinetics; many clips are gone from YouTube."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from epalm.data.published.base import Item, Layout, LeftOut, Published, register
from epalm.data.published.files import captions, read_json
from epalm.data.published.shapes import NO_CAPTION


def _official(split: str, path: Path) -> Iterator[Item | LeftOut]:
    """A list of {videoID, enCap, chCap}; the private test has no captions."""
    for entry in read_json(path):
        name = entry["videoID"]
        written = entry.get("enCap") or []
        targets = captions(written)
        yield Item((name,), targets=targets, id=name) if targets or not written else LeftOut(NO_CAPTION)


VATEX = register(
    Published(
        name="vatex",
        title="VATEX",
        modality="video",
        layouts=(
            Layout(
                "official",
                {
                    "train": ("vatex_training_v1.0.json",),
                    "val": ("vatex_validation_v1.0.json",),
                    "test": ("vatex_public_test_english_v1.1.json",),
                    "private_test": ("vatex_private_test_without_annotations.json",),
                },
                _official,
            ),
        ),
        home="https://eric-xw.github.io/vatex-website/download.html",
        media_home="YouTube, by id, start and end, as in the annotations' videoID",
        results="vatex",
    )
)
