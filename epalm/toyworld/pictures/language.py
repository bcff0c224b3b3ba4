"""What can be said and asked about a scene, in varied English: facts, captions, questions and answers."""

from __future__ import annotations

import random
from collections.abc import Callable

from epalm.toyworld.pictures.world import COLORS, NUMBERS, PLACES, SHAPES, SIZES, TEXTURES, Group, Scene
from epalm.toyworld.wording import GROUND, Asked, Statement, listed, plural, with_article

NAMES = frozenset(
    word for name in (*SHAPES, *(plural(shape, 2) for shape in SHAPES), *COLORS, *PLACES) for word in name.split()
)
"""Words by which a question can say which group it is about."""
QUALITIES = frozenset((*COLORS, *TEXTURES, *SIZES, *NUMBERS))
"""Words for what a group is like."""


# --- captions -------------------------------------------------------------------------------------------------------


def noun_phrase(group: Group, *, size: bool, texture: bool, place: bool) -> str:
    """Such as 'two large striped red stars in the top left'; the words that are not asked for are left out."""
    words = [group.size] if size else []
    words += [group.texture] if texture and group.texture != "plain" else []
    words += [group.color, plural(group.shape, group.count)]
    phrase = " ".join(words)
    phrase = with_article(phrase) if group.count == 1 else f"{NUMBERS[group.count]} {phrase}"
    return f"{phrase} {_where(group)}" if place else phrase


def _where(group: Group) -> str:
    return f"in the {group.place}"


_CAPTION_FRAMES = ("{}", "{}", "{}", "a picture of {}", "there {be} {}", "we see {}", "this picture shows {}")


def write_caption(scene: Scene, rng: random.Random) -> str:
    """A caption that names every group in reading order: count, colour and shape always; more at random."""
    size, texture, place = rng.random() < 0.4, rng.random() < 0.6, rng.random() < 0.4
    phrases = [noun_phrase(group, size=size, texture=texture, place=place) for group in scene.groups]
    be = "is" if scene.groups[0].count == 1 else "are"
    return rng.choice(_CAPTION_FRAMES).format(listed(phrases), be=be) + "."


# --- facts: what the language model reads before it is asked ----------------------------------------------------------

_ASIDES = (
    "it is a quiet day.",
    "someone drew this with care.",
    "nobody is here.",
    "this is a small picture.",
    "the artist was tired.",
    "it hangs on the wall.",
    "look closely.",
    "it was made long ago.",
)


def _full_fact(group: Group, rng: random.Random) -> str:
    """One group with all its attributes in one sentence, in one of many orders."""
    number = NUMBERS[group.count]
    noun = plural(group.shape, group.count)
    be = "is" if group.count == 1 else "are"
    it, has = ("it", "it is") if group.count == 1 else ("they", "they are")
    lead = f"{group.size} {group.texture} {group.color} {noun}"
    lead = with_article(lead) if group.count == 1 and rng.random() < 0.5 else f"{number} {lead}"
    where = f"{rng.choice(('in', 'at'))} the {group.place}"
    return rng.choice(
        (
            f"there {be} {lead} {where}.",
            f"{where} there {be} {lead}.",
            f"{lead} {be} {where}.",
            f"the {group.place} has {lead}.",
            f"{where} we see {lead}.",
            f"{number} {noun} {be} {where}. {has} {group.size}, {group.texture} and {group.color}.",
            f"there {be} {number} {group.color} {noun}. {it} {be} {where}, {group.texture} and {group.size}.",
            f"we see {number} {noun} {where}. {has} {group.color}. {has} {group.texture} and {group.size}.",
            f"{number} {group.size} {noun}, {group.texture} and {group.color}, {be} {where}.",
        )
    )


def state_facts(scene: Scene, rng: random.Random) -> list[Statement]:
    """A passage of several sentences that states everything about the scene, in any order, with asides between."""
    statements = [Statement(_full_fact(group, rng), number) for number, group in enumerate(scene.groups)]
    ground = rng.choice(("the ground is {}.", "the background is {}.", "it stands on a {} ground."))
    statements.append(Statement(ground.format(scene.ground), GROUND))
    if rng.random() < 0.3:
        statements.append(Statement(rng.choice(_ASIDES)))
    rng.shuffle(statements)
    return statements


def state_notes(scene: Scene) -> list[Statement]:
    """The same facts as terse notes, always in the same order: group by group in reading order, then the ground."""
    groups = [
        Statement(
            f"{NUMBERS[group.count]} {group.size} {group.texture} {group.color} {group.shape} {group.place},", number
        )
        for number, group in enumerate(scene.groups)
    ]
    return [*groups, Statement(f"{scene.ground}.", GROUND)]


# --- questions --------------------------------------------------------------------------------------------------------

_IMAGE = ("picture", "image", "scene")
_THING = ("shape", "object", "thing")
_COLOR = ("color", "color", "colour")


def _shape_name(group: Group, rng: random.Random) -> str:
    """How a question names a group that it wants to know something else of."""
    return (
        plural(group.shape, group.count) if rng.random() < 0.8 else plural(f"{group.size} {group.shape}", group.count)
    )


def _ask_color(scene: Scene, rng: random.Random) -> Asked | None:
    group = rng.choice(scene.groups)
    name, be, color = _shape_name(group, rng), "is" if group.count == 1 else "are", rng.choice(_COLOR)
    forms = [f"what {color} {be} the {name}", f"what is the {color} of the {name}", f"which {color} {be} the {name}"]
    if len(scene.groups) == 1:
        thing = plural(rng.choice(_THING), group.count)
        forms += [f"what {color} {be} the {thing}", f"what is the {color} of the {thing}"]
    else:
        thing = plural(rng.choice(_THING), group.count)
        forms += [f"what {color} {be} the {thing} in the {group.place}"]
    return Asked("color", rng.choice(forms), group.color, scene.numbers(group))


def _ask_shape(scene: Scene, rng: random.Random) -> Asked | None:
    group = rng.choice(scene.groups)
    thing, be = rng.choice(_THING), "is" if group.count == 1 else "are"
    image = rng.choice(_IMAGE)
    forms = [
        f"what shape {be} in the {group.place}",
        f"which shape is in the {group.place}",
        f"what is in the {group.place}",
    ]
    if len(scene.with_color(group.color)) == 1:
        forms += [f"what is the {group.color} {thing}", f"what shape is {group.color}", f"which shape is {group.color}"]
    if len(scene.groups) == 1:
        forms += [
            f"what shape is in the {image}",
            f"what shape does the {image} contain",
            "what shape is present",
            f"what is in the {image}",
            f"what does the {image} show",
        ]
    return Asked("shape", rng.choice(forms), group.shape, scene.numbers(group))


def _ask_count(scene: Scene, rng: random.Random) -> Asked | None:
    if rng.random() < 0.12:
        absent = rng.choice([shape for shape in SHAPES if scene.with_shape(shape) is None])
        return Asked("count", f"how many {plural(absent, 2)} are there", NUMBERS[0])
    group = rng.choice(scene.groups)
    many, image = plural(group.shape, 2), rng.choice(_IMAGE)
    forms = [
        f"how many {many} are there",
        f"how many {many} does the {image} have",
        f"how many {many} are in the {image}",
        f"what is the number of {many}",
        f"how many {many} do you see",
    ]
    if len(scene.with_color(group.color)) == 1:
        forms += [f"how many {group.color} {plural(rng.choice(_THING), 2)} are there"]
    forms += [f"how many {plural(rng.choice(_THING), 2)} are in the {group.place}"]
    return Asked("count", rng.choice(forms), NUMBERS[group.count], scene.numbers(group))


def _ask_place(scene: Scene, rng: random.Random) -> Asked | None:
    group = rng.choice(scene.groups)
    name, be = _shape_name(group, rng), "is" if group.count == 1 else "are"
    forms = [f"where {be} the {name}", f"in which place {be} the {name}", f"where can you see the {name}"]
    if len(scene.with_color(group.color)) == 1:
        forms += [f"where {be} the {group.color} {plural(rng.choice(_THING), group.count)}"]
    return Asked("place", rng.choice(forms), group.place, scene.numbers(group))


def _ask_texture(scene: Scene, rng: random.Random) -> Asked | None:
    group = rng.choice(scene.groups)
    name, be = _shape_name(group, rng), "is" if group.count == 1 else "are"
    others = [texture for texture in TEXTURES if texture != group.texture]
    pair = [group.texture, rng.choice(others)]
    rng.shuffle(pair)
    forms = [
        f"what texture {'does' if group.count == 1 else 'do'} the {name} have",
        f"what is the texture of the {name}",
        f"{be} the {name} {pair[0]} or {pair[1]}",
    ]
    return Asked("texture", rng.choice(forms), group.texture, scene.numbers(group))


def _ask_size(scene: Scene, rng: random.Random) -> Asked | None:
    group = rng.choice(scene.groups)
    name, be = plural(group.shape, group.count), "is" if group.count == 1 else "are"
    pair = list(SIZES)
    rng.shuffle(pair)
    forms = [f"{be} the {name} {pair[0]} or {pair[1]}", f"what size {be} the {name}", f"how big {be} the {name}"]
    return Asked("size", rng.choice(forms), group.size, scene.numbers(group))


def _ask_ground(scene: Scene, rng: random.Random) -> Asked | None:
    pair = ["light", "dark"]
    rng.shuffle(pair)
    forms = [
        f"is the background {pair[0]} or {pair[1]}",
        f"is the ground {pair[0]} or {pair[1]}",
        "what is the background like",
    ]
    return Asked("ground", rng.choice(forms), scene.ground, (GROUND,))


_IS_THERE = (
    "is there {a}",
    "is there {a}",
    "is there {a} in the {image}",
    "do you see {a}",
    "can you see {a} in the {image}",
    "does the {image} contain {a}",
    "does the {image} show {a}",
    "is {a} present",
    "is {a} visible",
    "are there any {many}",
)
_IS_THERE_NOT = (
    "is there no {one}",
    "is there not {a}",
    "is there not {a} in the {image}",
    "does the {image} not contain {a}",
    "is no {one} present",
    "is no {one} in the {image}",
)


def _ask_presence(scene: Scene, rng: random.Random) -> Asked | None:
    """Is there such a thing? By shape, by colour, or by both; a colour with the wrong shape is the hard no."""
    wanted = rng.random() < 0.5
    group = rng.choice(scene.groups)
    manner = rng.choice(("shape", "color", "both"))
    about = scene.numbers(group)
    if manner == "shape":
        absent = [shape for shape in SHAPES if scene.with_shape(shape) is None]
        thing = group.shape if wanted else rng.choice(absent)
        about = about if wanted else ()
        evidence = plural(group.shape, group.count)
    elif manner == "color":
        absent = [color for color in COLORS if not scene.with_color(color)]
        thing = f"{group.color if wanted else rng.choice(absent)} {rng.choice(_THING)}"
        about = scene.numbers(*scene.with_color(group.color)) if wanted else ()
        evidence = group.color
    else:
        evidence = group.color
        wrong = [other.color for other in scene.groups if other.color != group.color] if rng.random() < 0.5 else []
        wrong = wrong or [color for color in COLORS if color != group.color]
        thing = f"{group.color if wanted else rng.choice(wrong)} {group.shape}"
    negated = rng.random() < 0.3
    frame = rng.choice(_IS_THERE_NOT if negated else _IS_THERE)
    question = frame.format(a=with_article(thing), one=thing, many=plural(thing, 2), image=rng.choice(_IMAGE))
    return Asked("presence", question, "yes" if wanted != negated else "no", about, wanted, (evidence,))


def _ask_property(scene: Scene, rng: random.Random) -> Asked | None:
    """Is the star red? Are the circles striped?"""
    group = rng.choice(scene.groups)
    attribute, choices = rng.choice(
        (("color", tuple(COLORS)), ("texture", TEXTURES), ("size", SIZES), ("place", PLACES[:4])),
    )
    right = getattr(group, attribute)
    said = right if rng.random() < 0.5 else rng.choice([choice for choice in choices if choice != right])
    be = "is" if group.count == 1 else "are"
    said_so = f"in the {said}" if attribute == "place" else said
    question = f"{be} the {plural(group.shape, group.count)} {said_so}"
    return Asked(
        "property",
        question,
        "yes" if said == right else "no",
        scene.numbers(group),
        said == right,
        tuple(right.split()),
    )


def _ask_comparison(scene: Scene, rng: random.Random) -> Asked | None:
    """Two groups held against each other: more, larger, left of, above, same colour."""
    if len(scene.groups) < 2:
        return None
    first, second = rng.sample(scene.groups, 2)
    names = plural(first.shape, 2), plural(second.shape, 2)
    singular = plural(first.shape, first.count), plural(second.shape, second.count)
    be = "is" if first.count == 1 else "are"
    options: list[tuple[str, bool]] = [
        (f"{be} the {singular[0]} the same {rng.choice(_COLOR)} as the {singular[1]}", first.color == second.color)
    ]
    if first.count != second.count:
        options += [
            (f"are there more {names[0]} than {names[1]}", first.count > second.count),
            (f"are there fewer {names[0]} than {names[1]}", first.count < second.count),
        ]
    else:
        options += [
            (f"are there as many {names[0]} as {names[1]}", True),
            (f"are there more {names[0]} than {names[1]}", False),
        ]
    if first.size != second.size:
        options += [(f"{be} the {singular[0]} larger than the {singular[1]}", first.size == "large")]
    for axis, (low, high) in enumerate((("left of", "right of"), ("above", "below"))):
        if first.at[axis] != second.at[axis]:
            relation = rng.choice((low, high))
            options += [
                (
                    f"{be} the {singular[0]} {relation} the {singular[1]}",
                    (relation == low) == (first.at[axis] < second.at[axis]),
                )
            ]
    question, truth = rng.choice(options)
    return Asked("comparison", question, "yes" if truth else "no", scene.numbers(first, second))


_ASKERS: tuple[tuple[Callable[[Scene, random.Random], Asked | None], int], ...] = (
    (_ask_color, 4),
    (_ask_shape, 4),
    (_ask_count, 3),
    (_ask_place, 3),
    (_ask_texture, 2),
    (_ask_size, 2),
    (_ask_ground, 1),
    (_ask_presence, 4),
    (_ask_property, 2),
    (_ask_comparison, 3),
)


def ask(scene: Scene, rng: random.Random) -> Asked:
    """A question about the scene, its kind at random."""
    askers, weights = zip(*_ASKERS, strict=True)
    while (asked := rng.choices(askers, weights)[0](scene, rng)) is None:
        pass
    return asked


def suppose(scene: Scene, rng: random.Random) -> Asked:
    """A question to be answered by yes or no."""
    while (asked := rng.choice((_ask_presence, _ask_presence, _ask_property, _ask_comparison))(scene, rng)) is None:
        pass
    return asked


# --- the same in a few words ------------------------------------------------------------------------------------------


_CHOICES = {"color": tuple(COLORS), "texture": TEXTURES, "size": SIZES, "place": PLACES[:4], "number": NUMBERS[1:]}


def ask_tersely(scene: Scene, rng: random.Random) -> Asked:
    """A request in a few words, such as 'color star' or 'the red': what a reader learns to answer first."""
    group = rng.choice(scene.groups)
    about = scene.numbers(group)
    noun = plural(group.shape, group.count)
    values = {
        "color": group.color, "texture": group.texture, "size": group.size, "place": group.place,
        "number": NUMBERS[group.count],
    }  # fmt: skip
    manner = rng.choices(("name", "claim", "attribute"), weights=(3, 4, 3))[0]
    if manner == "name":
        forms = [f"shape {group.place}", f"the {group.place}"]
        if len(scene.with_color(group.color)) == 1:
            forms += [f"the {group.color}", f"shape {group.color}"]
        return Asked("terse shape", rng.choice(forms), group.shape, about)
    attribute = rng.choice(tuple(values))
    if manner == "claim":
        said = right = values[attribute]
        if rng.random() < 0.5:
            said = rng.choice([other for other in _CHOICES[attribute] if other != right])
        form = rng.choice((f"{noun}, {said}", f"{said}, {noun}"))
        return Asked("terse claim", form, "yes" if said == right else "no", about, said == right, tuple(right.split()))
    forms = [f"{attribute} {noun}", f"the {attribute} of the {noun}", f"{noun}, {attribute}"]
    if attribute != "place":
        forms += [f"{attribute} {group.place}"]
    return Asked(f"terse {attribute}", rng.choice(forms), values[attribute], about)
