"""Which layers get perception, and which level."""

from __future__ import annotations

import pytest

from epalm.errors import ConfigError
from epalm.models.window import Window
from epalm.settings import AdapterConfig


@pytest.mark.parametrize(
    ("depth", "start", "end"),
    [(32, 19, 31), (24, 14, 23), (12, 7, 11), (6, 4, 5), (4, 2, 3), (3, 2, 3), (2, 1, 2), (1, 0, 1)],
)
def test_default_window(depth: int, start: int, end: int) -> None:
    assert Window.resolve(AdapterConfig(), depth) == Window(start, end)


def test_one_given_end_moves_the_other_as_far_as_it_must() -> None:
    assert Window.resolve(AdapterConfig(start=31), 32) == Window(31, 32)
    assert Window.resolve(AdapterConfig(end=5), 32) == Window(4, 5)
    assert Window.resolve(AdapterConfig(start=11, end=23), 24) == Window(11, 23)


@pytest.mark.parametrize(
    ("width", "levels", "schedule"),
    [
        (12, 6, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]),
        (6, 6, [0, 1, 2, 3, 4, 5]),
        (6, 3, [0, 0, 1, 1, 2, 2]),
        (7, 3, [0, 0, 1, 1, 2, 2, 2]),
        (5, 1, [0, 0, 0, 0, 0]),
    ],
)
def test_schedule(width: int, levels: int, schedule: list[int]) -> None:
    assert Window(3, 3 + width).schedule(levels) == schedule


def test_default_levels_are_the_least_of_six_the_window_and_the_encoder() -> None:
    wide, narrow = Window(19, 31), Window(4, 6)
    depths = {"audio": None, "image": 12, "video": 3}
    assert wide.levels(AdapterConfig(), depths) == {"audio": 6, "image": 6, "video": 3}
    assert narrow.levels(AdapterConfig(), depths) == {"audio": 2, "image": 2, "video": 2}
    assert wide.levels(AdapterConfig(levels=3), depths) == {"audio": 3, "image": 3, "video": 3}


def test_the_originals_mask_lets_the_deepest_levels_reach_no_layer() -> None:
    window = Window(4, 6)
    with pytest.raises(ConfigError, match="4 levels for the 2 layers of the window"):
        window.levels(AdapterConfig(levels=4), {"image": 6})
    assert window.levels(AdapterConfig(levels=4, mask="legacy"), {"image": 6}) == {"image": 4}
    assert (window.schedule(4), window.used(4), window.used(1)) == ([0, 1], 2, 1)
