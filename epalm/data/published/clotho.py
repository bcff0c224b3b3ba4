"""Clotho (Drossos et al., ICASSP 2020): five captions for each recording; the challenge's test has none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from epalm.data.published.base import Item, Layout, LeftOut, Published, register
from epalm.data.published.files import captions, read_csv
from epalm.data.published.shapes import NO_CAPTION


def _official(split: str, path: Path) -> Iterator[Item | LeftOut]:
    """CSV of file_name, caption_1 to caption_5; that of the challenge, in Latin-1 with semicolons, has no captions."""
    for row in read_csv(path, otherwise="latin-1" if split == "challenge" else None):
        written = [row[f"caption_{number}"] for number in range(1, 6)] if "caption_1" in row else []
        targets = captions(written)
        name = row["file_name"].strip()
        yield Item((name,), targets=targets, id=name) if targets or not written else LeftOut(NO_CAPTION)


CLOTHO = register(
    Published(
        name="clotho",
        title="Clotho",
        modality="audio",
        layouts=(
            Layout(
                "official",
                {
                    "train": ("clotho_captions_development.csv",),
                    "val": ("clotho_captions_validation.csv",),
                    "test": ("clotho_captions_evaluation.csv",),
                    "challenge": ("clotho_metadata_test.csv",),
                },
                _official,
            ),
        ),
        home="https://zenodo.org/records/4783391, of the challenge https://zenodo.org/records/3865658",
        media_home="https://zenodo.org/records/4783391 (development, validation, evaluation), "
        "https://zenodo.org/records/3865658 (test)",
        results="coco",
    )
)
