"""Features of files: each perceived once and kept, or anew at every visit; the same numbers either way."""

from __future__ import annotations

import copy
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from epalm.data.file_features import PerceivedFiles
from epalm.encoders import PerceptualEncoder, load_encoder
from epalm.errors import MediaError
from epalm.media import load_image

K = 2


@pytest.fixture(scope="module")
def encoder(backbones: Path) -> PerceptualEncoder:
    return load_encoder(backbones / "vit")


@pytest.fixture
def pictures(tmp_path: Path) -> list[dict[str, Path]]:
    folder = tiny.save_pictures(tmp_path)
    return [{"image": folder / f"{name}.png"} for name in tiny.COLOURS]


def perceiving(encoder: PerceptualEncoder, **options: int | bool) -> PerceivedFiles:
    return PerceivedFiles({"image": encoder}, {"image": K}, **options)


def test_features_are_what_the_encoder_gives(encoder: PerceptualEncoder, pictures: list[dict[str, Path]]) -> None:
    directly = encoder.features(encoder.preprocess([load_image(row["image"]) for row in pictures]), K)  # (B, K, E)
    for keep in (True, False):
        given = perceiving(encoder, keep=keep).of(pictures)
        assert set(given) == {"image"}
        assert torch.equal(given["image"], directly)
    assert not torch.allclose(directly[0], directly[1])


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_kept_or_anew_gives_the_same_bits(
    encoder: PerceptualEncoder, pictures: list[dict[str, Path]], batch_size: int
) -> None:
    rows = [pictures[i] for i in (3, 0, 0, 2, 1, 3)]
    kept, anew = (perceiving(encoder, batch_size=batch_size, keep=keep) for keep in (True, False))
    kept.perceive(pictures)
    for some in (rows, rows[:1], rows[2:5]):
        assert torch.equal(kept.of(some)["image"], anew.of(some)["image"])
    assert torch.equal(anew.of(rows)["image"][1], anew.of(rows)["image"][2])


def test_a_kept_file_is_never_read_again(encoder: PerceptualEncoder, pictures: list[dict[str, Path]]) -> None:
    kept, anew = perceiving(encoder), perceiving(encoder, keep=False)
    kept.perceive(pictures)
    before = kept.of(pictures[:1])["image"]
    Image.new("RGB", (8, 8), "yellow").save(pictures[0]["image"])
    assert torch.equal(kept.of(pictures[:1])["image"], before)
    assert not torch.equal(anew.of(pictures[:1])["image"], before)
    pictures[1]["image"].unlink()
    assert kept.of(pictures[1:2])["image"].shape == (1, K, encoder.width)
    with pytest.raises(MediaError, match=r"green\.png: no such file"):
        anew.of(pictures[1:2])


def test_progress_counts_distinct_files_that_are_not_kept_yet(
    encoder: PerceptualEncoder, pictures: list[dict[str, Path]]
) -> None:
    progress: list[tuple[str, int, int]] = []
    kept = perceiving(encoder, batch_size=2)
    kept.perceive([pictures[0]])
    kept.perceive([*pictures, *pictures], lambda *news: progress.append(news))
    assert progress == [("perceiving image", 2, 3), ("perceiving image", 3, 3)]
    kept.perceive(pictures, lambda *news: progress.append(news))
    perceiving(encoder, keep=False).perceive(pictures, lambda *news: progress.append(news))
    assert len(progress) == 2


def test_files_are_not_held(encoder: PerceptualEncoder, tmp_path: Path) -> None:
    """A hundred more pictures of 480 kB each cost no more memory than what is remembered of them."""
    for number in range(120):
        Image.fromarray(np.full((400, 400, 3), number, dtype=np.uint8)).save(tmp_path / f"{number}.png")
    rows = [{"image": tmp_path / f"{number}.png"} for number in range(120)]
    perceived = perceiving(encoder, batch_size=4)
    perceived.perceive(rows[:20])
    tracemalloc.start()
    try:
        perceived.perceive(rows[20:40])
        before = tracemalloc.get_traced_memory()[0]
        perceived.perceive(rows[40:])
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 400_000
    assert perceived.of(rows)["image"].shape == (120, K, encoder.width)


def test_features_that_are_no_numbers_are_the_files_fault(
    encoder: PerceptualEncoder, pictures: list[dict[str, Path]]
) -> None:
    broken = copy.deepcopy(encoder)
    with torch.no_grad():
        next(broken.backbone.parameters()).fill_(float("inf"))
    with pytest.raises(MediaError, match=r"red\.png: .* gives features that are not finite numbers"):
        perceiving(broken).of(pictures)


def test_what_is_not_perceived_is_not_read(encoder: PerceptualEncoder, pictures: list[dict[str, Path]]) -> None:
    perceived = perceiving(encoder)
    rows = [{**pictures[0], "video": Path("none.mp4")}, {"video": Path("none.mp4")}]
    perceived.perceive(rows)
    assert perceived.of(rows) == {}
    assert set(perceived.of(rows[:1])) == {"image"}
    assert PerceivedFiles({}, {}).of(pictures) == {}
