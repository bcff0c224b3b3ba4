"""Other views of a picture: what may change, what must not, and that the seed alone decides."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image

from epalm.media.augment import augmented

WIDTH, HEIGHT = 90, 60


@pytest.fixture
def picture() -> Image.Image:
    """Red grows to the right, green downwards: a pixel's colour tells where it was."""
    across = np.broadcast_to(np.linspace(0, 255, WIDTH), (HEIGHT, WIDTH))
    down = np.broadcast_to(np.linspace(0, 255, HEIGHT)[:, None], (HEIGHT, WIDTH))
    return Image.fromarray(np.stack([across, down, np.full_like(across, 40)], axis=2).astype(np.uint8))


def extent(view: Image.Image, channel: int) -> tuple[float, float]:
    """From where to where of the picture a view reaches, as shares, by the colours of its edges."""
    values = np.asarray(view, dtype=float)[..., channel] / 255
    ends = (values[:, 0], values[:, -1]) if channel == 0 else (values[0], values[-1])
    return float(ends[0].mean()), float(ends[1].mean())


def test_without_augmentation_a_picture_is_itself(picture: Image.Image) -> None:
    assert augmented(picture, random.Random(0), "none") is picture


def test_a_crop_is_a_square_of_half_to_all_of_the_picture(picture: Image.Image) -> None:
    areas, aspects, lefts = [], [], []
    for seed in range(60):
        view = augmented(picture, random.Random(seed), "crop")
        (left, right), (top, bottom) = extent(view, 0), extent(view, 1)
        assert view.mode == "RGB"
        assert view.width == view.height
        assert right > left  # never mirrored
        assert bottom > top
        areas.append((right - left) * (bottom - top))
        aspects.append((right - left) * WIDTH / ((bottom - top) * HEIGHT))
        lefts.append(left)
    assert min(areas) > 0.44  # edges are half a pixel inside
    assert max(areas) > 0.8
    assert min(aspects) > 0.72
    assert max(aspects) < 1.4
    assert len({round(left, 2) for left in lefts}) > 15


def test_a_flip_mirrors_about_half_of_the_views(picture: Image.Image) -> None:
    mirrored = 0
    for seed in range(60):
        (left, right), (top, bottom) = (
            extent(augmented(picture, random.Random(seed), "flip"), channel) for channel in (0, 1)
        )
        mirrored += left > right
        assert bottom > top  # never upside down
    assert 15 < mirrored < 45


@pytest.mark.parametrize("augment", ["crop", "flip", "strong"])
def test_the_lot_decides(picture: Image.Image, augment: str) -> None:
    before = picture.tobytes()
    views = [augmented(picture, random.Random(seed), augment) for seed in (1, 1, 2)]
    assert views[0].tobytes() == views[1].tobytes() != views[2].tobytes()
    assert picture.tobytes() == before


def test_strong_views_are_right_pictures_of_many_kinds(picture: Image.Image) -> None:
    views = [augmented(picture, random.Random(seed), "strong") for seed in range(60)]
    assert all(view.mode == "RGB" and view.width == view.height for view in views)
    assert len({view.tobytes() for view in views}) == 60
    assert any((np.asarray(view) == 128).all(axis=2).any() for view in views)  # turned or shifted, grey comes in


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (3, 500), (2, 3)])
def test_odd_shapes(size: tuple[int, int]) -> None:
    for augment in ("crop", "strong"):
        for seed in range(20):
            view = augmented(Image.new("RGB", size, (9, 8, 7)), random.Random(seed), augment)
            assert view.width == view.height >= 1
