"""Flickr8k (Hodosh et al., JAIR 2013): the official files, and Karpathy's splits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from epalm.data.published.base import Item, Layout, LeftOut, Published, register
from epalm.data.published.files import captions, read_lines
from epalm.data.published.shapes import NO_CAPTION, read_karpathy


def read_tokens(path: Path) -> dict[str, tuple[str, ...]]:
    """Picture -> captions, from lines `picture.jpg#0<tab>caption`."""
    texts: dict[str, list[str]] = {}
    for line in read_lines(path):
        name, caption = line.split("\t", 1)
        texts.setdefault(name.rpartition("#")[0], []).append(caption)
    return {name: captions(written) for name, written in texts.items()}


def _official(split: str, tokens: Path, members: Path) -> Iterator[Item | LeftOut]:
    """The list of a split decides: the captions name one picture that was never there (`....jpg.1`)."""
    texts = read_tokens(tokens)
    for name in read_lines(members):
        if texts.get(name):
            yield Item((name,), targets=texts[name], id=name.removesuffix(".jpg"))
        else:
            yield LeftOut(NO_CAPTION)


FLICKR8K = register(
    Published(
        name="flickr8k",
        title="Flickr8k",
        modality="image",
        layouts=(
            Layout(
                "Karpathy's splits", dict.fromkeys(("train", "val", "test"), ("dataset_flickr8k.json",)), read_karpathy
            ),
            Layout(
                "official",
                {
                    "train": ("Flickr8k.token.txt", "Flickr_8k.trainImages.txt"),
                    "val": ("Flickr8k.token.txt", "Flickr_8k.devImages.txt"),
                    "test": ("Flickr8k.token.txt", "Flickr_8k.testImages.txt"),
                },
                _official,
            ),
        ),
        home="https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip",
        media_home="https://hockenmaier.cs.illinois.edu/8k-pictures.html (on request)",
        results="coco",
    )
)
