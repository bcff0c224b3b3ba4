"""Clips: held-out combinations in no training set, words that are true of them, frames that show what they say."""

import random
from itertools import combinations, product

import numpy as np
import pytest

from epalm.media import load_video
from epalm.toyworld.clips.language import (
    ask,
    bare,
    caption_is_right,
    state_facts,
    state_notes,
    suppose,
    write_caption,
)
from epalm.toyworld.clips.render import SIDE, draw_frames, draw_with_owners, save_clip
from epalm.toyworld.clips.world import COLLIDES, DEEDS, MOVES, Act, Clip, draw_clip, is_held_out
from epalm.toyworld.pictures.world import COLORS, NUMBERS, SHAPES

COMBINATIONS = list(product(SHAPES, COLORS, DEEDS))
KINDS = ("once", "twice", "in turn", "collision")
STAR, RING = ("star", "red"), ("ring", "blue")
ONCE = Clip("dark", (Act(*STAR, "moves left"),))
TWICE = Clip("dark", (Act(*STAR, "moves left"), Act(*STAR, "grows")))
IN_TURN = Clip("dark", (Act(*STAR, "moves left"), Act(*RING, "blinks")))
COLLISION = Clip("light", (Act(*STAR, COLLIDES), Act(*RING, COLLIDES)))


def clips(number, seed=0, **drawing):
    rng = random.Random(seed)
    return [draw_clip(rng, **drawing) for _ in range(number)]


# --- the world ------------------------------------------------------------------------------------------------------


def test_a_fifth_of_all_combinations_is_held_out():
    assert sum(is_held_out(*combination) for combination in COMBINATIONS) == len(COMBINATIONS) // 5


@pytest.mark.parametrize("places", list(combinations(range(3), 2)))
def test_every_pair_of_attributes_occurs_in_training(places):
    training = [combination for combination in COMBINATIONS if not is_held_out(*combination)]
    pairs = {tuple(combination[place] for place in places) for combination in COMBINATIONS}
    assert {tuple(combination[place] for place in places) for combination in training} == pairs


@pytest.mark.parametrize(("held_out", "number"), [(False, 5000), (True, 1000)])
def test_clips_hold_only_their_own_kind_and_all_of_it(held_out, number):
    drawn = clips(number, held_out=held_out)
    seen = {(act.shape, act.color, act.deed) for clip in drawn for act in clip.acts}
    assert seen == {combination for combination in COMBINATIONS if is_held_out(*combination) == held_out}


@pytest.mark.parametrize(("kind", "acts", "things"), [("once", 1, 1), ("twice", 2, 1), ("in turn", 2, 2)])
def test_things_act_once_twice_or_in_turn(kind, acts, things):
    for clip in clips(300, kind=kind):
        assert (len(clip.acts), len(clip.things)) == (acts, things)
        assert len({act.deed for act in clip.acts}) == acts
        assert len({shape for shape, _ in clip.things}) == things
        assert not clip.collision


def test_two_things_collide():
    for clip in clips(300, kind="collision"):
        assert clip.collision
        assert len(clip.things) == 2
        assert {act.deed for act in clip.acts} == {COLLIDES}


# --- words ----------------------------------------------------------------------------------------------------------


def test_every_caption_is_right_of_its_clip_and_hardly_ever_of_another():
    rng = random.Random(1)
    drawn = clips(2000)
    captions = [write_caption(clip, rng) for clip in drawn]
    assert len(set(captions)) > 1700
    assert all(caption_is_right(caption, clip) for caption, clip in zip(captions, drawn, strict=True))
    assert sum(caption_is_right(*pair) for pair in zip(captions, drawn[1:], strict=False)) < 20


@pytest.mark.parametrize(
    ("clip", "caption", "right"),
    [
        (ONCE, "a red star moves left.", True),
        (ONCE, "we see that a red star moves left on a dark ground.", True),
        (ONCE, "a red star moves left on a light ground.", False),
        (ONCE, "a red star moves right.", False),
        (ONCE, "a teal star moves left.", False),
        (ONCE, "a red heart moves left.", False),
        (ONCE, "a red star moves left and then grows.", False),
        (ONCE, "a red star moves left, then a red star moves left.", False),
        (ONCE, "a star moves left.", False),
        (ONCE, "a red star.", False),
        (ONCE, "", False),
        (TWICE, "a red star moves left, then it grows.", True),
        (TWICE, "a red star grows and then moves left.", False),  # the wrong order
        (TWICE, "a red star moves left.", False),
        (IN_TURN, "first a red star moves left and then a blue ring blinks.", True),
        (IN_TURN, "a blue ring blinks, then a red star moves left.", False),  # the wrong order
        (IN_TURN, "a red star blinks, then a blue ring moves left.", False),  # deeds exchanged
        (IN_TURN, "a blue star moves left, then a red ring blinks.", False),  # colours exchanged
        (IN_TURN, "a red star and a blue ring collide.", False),
        (COLLISION, "a red star and a blue ring collide.", True),
        (COLLISION, "a blue ring collides with a red star.", True),
        (COLLISION, "a red star collides.", False),
        (COLLISION, "a red star moves left, then a blue ring collides.", False),
    ],
)
def test_the_judge_wants_every_thing_and_deed_in_the_order_of_time(clip, caption, right):
    assert caption_is_right(caption, clip) is right


def test_facts_and_notes_state_everything():
    rng = random.Random(2)
    for clip in clips(300):
        for statements in (state_facts(clip, rng), state_notes(clip)):
            for number, act in enumerate(clip.acts):
                (about,) = [statement.text for statement in statements if statement.about == number]
                assert all(word in about for word in (act.shape, act.color, act.deed)), about
            assert clip.ground in " ".join(statement.text for statement in statements)


def subject(question, clip):
    """The acts that a question can be about, by the shapes, colours and deeds in it."""
    acts = [act for act in clip.acts if act.shape in question.split()] or list(clip.acts)
    acts = [act for act in acts if act.color in question.split()] or acts
    return [act for act in acts if act.deed in question or bare(act.deed) in question] or acts


def placed(question, clip, acts):
    """Of these the first or the last, where the question asks for one of them."""
    words = question.split()
    if "first" in words:
        return [clip.acts[0]]
    if {"last", "then"} & set(words):
        return [clip.acts[-1]]
    return acts


def test_answers_are_true():
    """Each kind of question against the clip, by rules of its own."""
    rng = random.Random(3)
    kinds = set()
    for clip in clips(6000):
        asked = ask(clip, rng)
        kinds.add(asked.kind)
        question = asked.question
        acts = placed(question, clip, subject(question, clip))
        if asked.kind == "direction":
            assert [asked.answer] == [act.deed.split()[1] for act in acts if act.deed in MOVES], asked
        elif asked.kind == "shape" and clip.collision and "collides with" in question:
            assert [asked.answer] == [act.shape for act in clip.acts if act.shape not in question]
        elif asked.kind in ("deed", "shape", "color"):
            assert {asked.answer} == {getattr(act, asked.kind) for act in acts}, asked
        elif asked.kind == "count":
            assert asked.answer == NUMBERS[len(clip.things)]
        elif asked.kind == "ground":
            assert asked.answer == clip.ground
        elif asked.kind == "order":
            assert (asked.answer == "yes") == order_holds(question, clip), asked
        else:
            assert (asked.answer == "yes") == presence_holds(question, clip), asked
    assert kinds == {"deed", "direction", "shape", "color", "count", "ground", "presence", "order"}


def order_holds(question, clip):
    """Whether what the question names first comes before what it names then, or after it, as it says."""
    names = [act.shape if len(clip.things) == 2 else act.deed.split()[-1].removesuffix("s") for act in clip.acts]
    if "acts first" in question or "acts last" in question:
        return names[0 if "first" in question else 1] in question
    early = question.index(names[0]) < question.index(names[1])
    return early == (" before " in question)


def presence_holds(question, clip):
    deeds = [deed for deed in DEEDS if question.endswith(bare(deed))]
    acts = [
        act
        for act in clip.acts
        if not ({*SHAPES} & {*question.split()} - {act.shape}) and not ({*COLORS} & {*question.split()} - {act.color})
    ]
    return any(not deeds or act.deed in deeds for act in acts)


def test_suppositions_hold_half_the_time_and_say_so():
    rng = random.Random(4)
    asked = [suppose(clip, rng) for clip in clips(2000)]
    assert {each.answer for each in asked} == {"yes", "no"}
    assert 0.4 < sum(each.answer == "yes" for each in asked) / len(asked) < 0.6
    assert all(each.holds == (each.answer == "yes") for each in asked if each.holds is not None)


# --- frames ---------------------------------------------------------------------------------------------------------

SIXTEEN = [(number + 0.5) / 16 for number in range(16)]


def owned(clip, seed, moments=SIXTEEN):
    """Points of each thing at each moment: (things, moments, side, side) of bool."""
    owners = draw_with_owners(clip, random.Random(seed), moments)[1]
    return np.stack([owners == number for number in range(1, len(clip.things) + 1)])


def middles(points):
    """Centre of mass (x, y) of the points (frames, side, side) of each frame."""
    return np.array([np.argwhere(frame)[:, ::-1].mean(axis=0) for frame in points])


def test_frames_follow_from_clip_and_seed():
    first, again, other = (draw_frames(IN_TURN, random.Random(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (16, SIDE, SIDE, 3)
    assert first.dtype == np.uint8


def test_eight_frames_show_the_moments_between_sixteen():
    eight = draw_frames(ONCE, random.Random(0), frames=8)
    owners = draw_with_owners(ONCE, random.Random(0), [(number + 0.5) / 8 for number in range(8)])[1]
    path = middles(owned(ONCE, 0)[0])
    between = (path[::2] + path[1::2]) / 2
    assert len(eight) == 8
    assert middles(owners == 1) == pytest.approx(between, abs=0.3)


@pytest.mark.parametrize("kind", KINDS)
def test_things_stay_inside_and_apart(kind):
    for seed, clip in enumerate(clips(40, seed=5, kind=kind)):
        things = owned(clip, seed)
        edge = things.copy()
        edge[:, :, 1:-1, 1:-1] = False
        assert not edge.any()
        if kind == "in turn":
            grown = things[0].copy()
            for axis, step in product((1, 2), (-1, 1)):
                grown |= np.roll(things[0], step, axis)
            assert not (grown & things[1]).any()


@pytest.mark.parametrize("deed", MOVES)
def test_what_moves_moves_that_way_and_no_other(deed):
    way = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}[deed.split()[1]]
    for seed in range(10):
        path = middles(owned(Clip("light", (Act(*RING, deed),)), seed)[0])
        assert (path[-1] - path[0]) @ way > 19
        assert ((path[1:] - path[:-1]) @ way > 0).all()
        assert np.ptp(path @ way[::-1]) < 1


@pytest.mark.parametrize(("deed", "least", "most"), [("grows", 3.0, 5.0), ("shrinks", 0.2, 1 / 3)])
def test_what_grows_or_shrinks_does_so_where_it_is(deed, least, most):
    for seed in range(10):
        points = owned(Clip("dark", (Act(*STAR, deed),)), seed)[0]
        assert least < points[-1].sum() / points[0].sum() < most
        assert np.ptp(middles(points), axis=0).max() < 1


def test_what_blinks_is_hidden_in_every_other_of_eight_frames():
    points = owned(Clip("dark", (Act(*STAR, "blinks"),)), 0)[0][1::2]
    assert points.any(axis=(1, 2)).tolist() == [True, False] * 4


def test_one_thing_goes_on_where_it_left_off():
    for seed in range(10):
        points = owned(Clip("dark", (Act(*STAR, "moves left"), Act(*STAR, "moves down"))), seed)[0]
        steps = np.diff(middles(points), axis=0)
        assert (steps[:7, 0] < 0).all()
        assert (steps[8:, 1] > 0).all()
        assert np.abs(steps[:7, 1]).max() < 0.5
        assert np.abs(steps[8:, 0]).max() < 0.5
        assert np.abs(steps[7]).max() < 5


def test_in_turn_one_stands_still_while_the_other_acts():
    for seed in range(10):
        star, ring = owned(Clip("dark", (Act(*STAR, "moves up"), Act(*RING, "moves right"))), seed)
        assert (star[8:] == star[8]).all()
        assert (ring[:8] == ring[0]).all()
        assert middles(star)[8, 1] < middles(star)[0, 1] - 19
        assert middles(ring)[-1, 0] > middles(ring)[8, 0] + 19


def test_what_collides_comes_closest_in_the_middle_and_bounces_back():
    for seed in range(10):
        star, ring = owned(COLLISION, seed)
        between = middles(ring)[:, 0] - middles(star)[:, 0]
        assert between.argmin() in (7, 8)
        assert (between > 0).all()
        assert between[0] - between.min() > 15
        assert between[-1] - between.min() > 15
        (star,), (ring,) = owned(COLLISION, seed, moments=[0.5])
        assert 0 < np.argwhere(ring)[:, 1].min() - np.argwhere(star)[:, 1].max() <= 2


def test_the_ground_stands_still():
    frames, owners = draw_with_owners(ONCE, random.Random(3), SIXTEEN)
    far = ~np.any([np.roll(owners > 0, (dy, dx), (1, 2)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)], axis=(0, 1))
    assert far.mean() > 0.5
    assert (frames[:, far] == frames[0, far]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_clip_is_read_back_as_it_was_drawn(kind, tmp_path):
    pytest.importorskip("av", reason="PyAV is not installed")
    for seed, clip in enumerate(clips(3, seed=6, kind=kind)):
        frames = draw_frames(clip, random.Random(seed))
        save_clip(frames, tmp_path / "clip.mp4")
        read = load_video(tmp_path / "clip.mp4", frames=8).astype(float)
        assert read.shape == (8, SIDE, SIDE, 3)
        losses = [np.abs(read - frames[start::2]).mean() for start in (0, 1)]
        assert losses[1] < 4  # the middle of two frames is where the second begins
        assert losses[1] < losses[0]
        assert np.abs((read - frames[1::2]).mean(axis=(0, 1, 2))).max() < 3
