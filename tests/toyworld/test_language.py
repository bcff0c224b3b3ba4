"""Captions and questions: varied, and true of their scenes."""

import random

import pytest

from epalm.toyworld.pictures.judge import caption_is_right
from epalm.toyworld.pictures.language import ask, ask_tersely, state_facts, state_notes, write_caption
from epalm.toyworld.pictures.world import NUMBERS, Group, Scene, draw_scene
from epalm.toyworld.stories import tell_story

STAR = Group("star", "red", "striped", "large", 2, "top left")
RING = Group("ring", "blue", "plain", "small", 1, "bottom right")
SCENE = Scene("dark", (STAR, RING))


def test_several_thousand_questions_and_captions_are_distinct():
    rng = random.Random(0)
    scenes = [draw_scene(rng) for _ in range(15_000)]
    assert len({ask(scene, rng).question for scene in scenes}) > 3000
    assert len({write_caption(scene, rng) for scene in scenes}) > 5000


def test_every_caption_is_right_of_its_scene_and_hardly_ever_of_another():
    rng = random.Random(1)
    scenes = [draw_scene(rng) for _ in range(2000)]
    captions = [write_caption(scene, rng) for scene in scenes]
    assert all(caption_is_right(caption, scene) for caption, scene in zip(captions, scenes, strict=True))
    shifted = zip(captions, scenes[1:], strict=False)
    assert sum(caption_is_right(caption, scene) for caption, scene in shifted) < 20


@pytest.mark.parametrize(
    ("caption", "right"),
    [
        ("two red stars and a blue ring.", True),
        ("a blue ring in the bottom right and two large striped red stars.", True),
        ("two red stars and a blue ring in the top left.", False),  # wrong place
        ("two red stars and two blue rings.", False),  # wrong count
        ("two red stars and a teal ring.", False),  # wrong colour
        ("two dotted red stars and a blue ring.", False),  # wrong texture
        ("two small red stars and a blue ring.", False),  # wrong size
        ("two red stars.", False),  # a group is missing
        ("two red stars, a blue ring and a red heart.", False),  # one too many
        ("two red stars, two red stars and a blue ring.", False),
        ("two stars and a blue ring.", False),  # no colour
        ("a picture.", False),
        ("", False),
    ],
)
def test_the_judge_wants_every_group_and_every_named_attribute(caption, right):
    assert caption_is_right(caption, SCENE) is right


def test_facts_state_everything():
    for seed in range(200):
        facts = " ".join(part.text for part in state_facts(SCENE, random.Random(seed)))
        for group in SCENE.groups:
            words = (group.shape, group.color, group.texture, group.size, group.place)
            assert all(word in facts for word in words), facts
        assert SCENE.ground in facts


def test_statements_say_which_group_they_are_about():
    for statements in (state_facts(SCENE, random.Random(0)), state_notes(SCENE)):
        for number, group in enumerate(SCENE.groups):
            about = [statement.text for statement in statements if statement.about == number]
            assert len(about) == 1
            assert group.shape in about[0]


def test_terse_answers_are_true():
    rng = random.Random(3)
    claims = set()
    for _ in range(3000):
        scene = draw_scene(rng)
        asked = ask_tersely(scene, rng)
        (number,) = asked.about
        group = scene.groups[number]
        true = {group.shape, group.color, group.texture, group.size, group.place, NUMBERS[group.count]}
        if asked.kind == "terse claim":
            first, second = asked.question.split(", ")
            said = second if group.shape in first else first
            assert (said in true) == (asked.answer == "yes"), asked
            claims.add(asked.answer)
        else:
            assert asked.answer in true
    assert claims == {"yes", "no"}


def test_questions_say_which_groups_they_are_about():
    rng = random.Random(5)
    for _ in range(3000):
        scene = draw_scene(rng)
        asked = ask(scene, rng)
        words = set(asked.question.replace(",", "").split())
        for number, group in enumerate(scene.groups):
            if {group.shape, group.shape + "s", group.shape + "es"} & words and asked.answer not in ("yes", "no"):
                assert number in asked.about, asked


def test_answers_are_true():
    """Each kind of question against the scene, by rules of its own."""
    rng = random.Random(3)
    kinds = set()
    for _ in range(6000):
        scene = draw_scene(rng)
        asked = ask(scene, rng)
        kinds.add(asked.kind)
        words = asked.question.split()
        named = [group for group in scene.groups if {group.shape, group.shape + "s", group.shape + "es"} & set(words)]
        if asked.kind == "ground":
            assert asked.answer == scene.ground
        elif asked.kind in ("color", "texture", "size", "place") and len(named) == 1:
            assert asked.answer == getattr(named[0], asked.kind)
        elif asked.kind == "count" and "there" in words and len(named) == 1:
            assert asked.answer == NUMBERS[named[0].count]
        elif asked.kind == "shape" and len(scene.groups) == 1:
            assert asked.answer == scene.groups[0].shape
        elif asked.kind == "presence" and not {"no", "not"} & set(words) and len(named) == 1:
            colors = [group.color for group in scene.groups if group.color in words]
            assert asked.answer == "yes" or named[0].color not in colors
        elif asked.kind in ("presence", "property", "comparison"):
            assert asked.answer in ("yes", "no")
    assert kinds == {
        "color", "shape", "count", "place", "texture", "size", "ground", "presence", "property", "comparison"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("are there more stars than rings", "yes"),
        ("are there fewer stars than rings", "no"),
        ("are the stars larger than the ring", "yes"),
        ("are the stars left of the ring", "yes"),
        ("are the stars below the ring", "no"),
        ("is the ring right of the stars", "yes"),
        ("are the stars the same color as the ring", "no"),
    ],
)
def test_comparisons(question, answer):
    rng = random.Random(0)
    answers = {asked.question: asked.answer for asked in (ask(SCENE, rng) for _ in range(8000))}
    assert answers[question] == answer


def test_yes_and_no_are_about_as_frequent():
    rng = random.Random(4)
    answers = [ask(draw_scene(rng), rng).answer for _ in range(8000)]
    assert 0.8 < answers.count("yes") / answers.count("no") < 1.25


def test_stories_answer_their_questions():
    rng = random.Random(0)
    for _ in range(300):
        statements, asked = tell_story(rng, 5)
        story = " ".join(part.text for part in statements)
        assert len(asked) == 5
        assert all(one.answer in ("yes", "no") or one.answer in story or one.kind in ("count", "what") for one in asked)
