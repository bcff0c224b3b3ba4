"""Held-out combinations are in no training scene, and pictures show what scenes say."""

import random
from itertools import combinations

import numpy as np
import pytest
from PIL import ImageFilter

from epalm.toyworld.pictures.render import SIDE, draw_picture, draw_with_owners
from epalm.toyworld.pictures.world import (
    HELD_OUT_LOOKS,
    LOOKS,
    TEXTURES,
    TRAINING_LOOKS,
    Group,
    Scene,
    draw_scene,
)


def looks_of(scene):
    return {(group.shape, group.color, group.texture) for group in scene.groups}


def test_training_and_held_out_looks_part_the_world():
    assert set(TRAINING_LOOKS) | set(HELD_OUT_LOOKS) == set(LOOKS)
    assert not set(TRAINING_LOOKS) & set(HELD_OUT_LOOKS)
    assert len(HELD_OUT_LOOKS) == len(LOOKS) // 5


@pytest.mark.parametrize("places", list(combinations(range(3), 2)))
def test_every_pair_of_attributes_occurs_in_training(places):
    pairs = {tuple(look[place] for place in places) for look in LOOKS}
    assert {tuple(look[place] for place in places) for look in TRAINING_LOOKS} == pairs


@pytest.mark.parametrize("held_out", [False, True])
def test_scenes_hold_only_their_own_kind(held_out):
    rng = random.Random(0)
    allowed = set(HELD_OUT_LOOKS if held_out else TRAINING_LOOKS)
    seen = set()
    for _ in range(3000):
        scene = draw_scene(rng, held_out=held_out)
        assert looks_of(scene) <= allowed
        assert len({group.shape for group in scene.groups}) == len(scene.groups)
        assert len({group.place for group in scene.groups}) == len(scene.groups)
        seen |= looks_of(scene)
    assert seen == allowed


def test_a_picture_follows_from_scene_and_seed():
    scene = draw_scene(random.Random(5))
    first, again, other = (np.asarray(draw_picture(scene, random.Random(seed))) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (SIDE, SIDE, 3)


def pieces(mask):
    """How many connected pieces a mask has (8-neighbours)."""
    left, count = {tuple(point) for point in np.argwhere(mask)}, 0
    while left:
        count += 1
        edge = [left.pop()]
        while edge:
            y, x = edge.pop()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            edge += near
    return count


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_group_stands_in_its_place_in_its_number(count):
    for seed in range(12):
        group = Group("circle", "red", "plain", "small", count, "bottom left")
        _, owners = draw_with_owners(Scene("light", (group,)), random.Random(seed))
        mask = np.asarray(owners) == 1
        assert pieces(mask) == count
        assert mask[SIDE // 2 :, : SIDE // 2].sum() >= 0.95 * mask.sum()


def test_large_things_are_larger_than_small_ones():
    def area(size, seed):
        group = Group("square", "blue", "plain", size, 1, "top right")
        return (np.asarray(draw_with_owners(Scene("dark", (group,)), random.Random(seed))[1]) == 1).sum()

    assert min(area("large", seed) for seed in range(30)) > max(area("small", seed) for seed in range(30))


@pytest.mark.parametrize("texture", TEXTURES)
def test_the_colour_of_a_thing_is_what_most_of_it_has(texture):
    """Black on white and white on black must not look alike."""
    for color, light in (("black", False), ("white", True)):
        shares = []
        for seed in range(60):
            scene = Scene("light", (Group("square", color, texture, "large", 1, "middle"),))
            picture, owners = draw_with_owners(scene, random.Random(seed))
            within = np.asarray(owners.filter(ImageFilter.MinFilter(5))) == 1  # without the rim
            shares.append(((np.asarray(picture.convert("L"))[within] > 128) == light).mean())
        assert min(shares) > 0.48
        assert np.mean(shares) > 0.65
