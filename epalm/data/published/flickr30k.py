"""Flickr30k (Young et al., TACL 2014): Karpathy's splits, or all captions from the official file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from epalm.data.published.base import Item, Layout, Published, register
from epalm.data.published.flickr8k import read_tokens
from epalm.data.published.shapes import read_karpathy


def _official(split: str, path: Path) -> Iterator[Item]:
    for name, texts in read_tokens(path).items():
        yield Item((name,), targets=texts, id=name.removesuffix(".jpg"))


FLICKR30K = register(
    Published(
        name="flickr30k",
        title="Flickr30k",
        modality="image",
        layouts=(
            Layout(
                "Karpathy's splits", dict.fromkeys(("train", "val", "test"), ("dataset_flickr30k.json",)), read_karpathy
            ),
            Layout("official", {"all": ("results_20130124.token",)}, _official),
        ),
        home="https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip",
        media_home="https://shannon.cs.illinois.edu/DenotationGraph/ (on request)",
        results="coco",
    )
)
