"""What can be said and asked about a clip, in varied English: facts, captions, questions, answers, and their judge."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from epalm.toyworld.clips.world import DEEDS, MOVES, Act, Clip
from epalm.toyworld.pictures.world import COLORS, GROUNDS, NUMBERS, SHAPES
from epalm.toyworld.wording import GROUND, Asked, Statement, with_article


def bare(deed: str) -> str:
    """The deed as an infinitive: 'moves left' -> 'move left'."""
    verb, *rest = deed.split()
    return " ".join([verb.removesuffix("s"), *rest])


def _thing(act: Act) -> str:
    return with_article(f"{act.color} {act.shape}")


# --- captions -------------------------------------------------------------------------------------------------------


def write_caption(clip: Clip, rng: random.Random) -> str:
    """A caption that names every thing with its colour and every deed in the order of time."""
    first, last = clip.acts[0], clip.acts[-1]
    if clip.collision:
        clause = rng.choice(
            (f"{_thing(first)} and {_thing(last)} collide", f"{_thing(first)} collides with {_thing(last)}")
        )
    elif len(clip.acts) == 1:
        clause = f"{_thing(first)} {first.deed}"
    elif first.shape == last.shape:
        clause = rng.choice(
            (
                f"{_thing(first)} {first.deed} and then {last.deed}",
                f"{_thing(first)} {first.deed}, then it {last.deed}",
            )
        )
    else:
        clause = rng.choice(
            (
                f"{_thing(first)} {first.deed}, then {_thing(last)} {last.deed}",
                f"first {_thing(first)} {first.deed} and then {_thing(last)} {last.deed}",
            )
        )
    ground = f" on a {clip.ground} ground" if rng.random() < 0.3 else ""
    return rng.choice(("{}", "{}", "we see that {}")).format(clause + ground) + "."


_DEED = "|".join((*DEEDS, "collide"))
_SPOKEN = re.compile(
    rf"\b(?P<color>{'|'.join(COLORS)}) (?P<shape>{'|'.join(SHAPES)})\b|\b(?P<deed>{_DEED})\b|"
    rf"\b(?P<ground>{'|'.join(GROUNDS)}) ground\b"
)


def caption_is_right(caption: str, clip: Clip) -> bool:
    """Whether the caption names every thing, in the order of time, with every deed, and nothing it says is wrong."""
    things: list[tuple[str, str]] = []
    deeds: list[str] = []
    pairs: list[tuple[tuple[str, str] | None, str]] = []
    for spoken in _SPOKEN.finditer(caption.lower()):
        if spoken["ground"]:
            if spoken["ground"] != clip.ground:
                return False
        elif spoken["deed"]:
            deeds.append(spoken["deed"])
            pairs.append((things[-1] if things else None, spoken["deed"]))
        else:
            things.append((spoken["shape"], spoken["color"]))
    if len(re.findall(rf"\b(?:{'|'.join(SHAPES)})\b", caption.lower())) != len(things):
        return False
    if clip.collision:
        return set(things) == set(clip.things) and len(things) == 2 and deeds in (["collide"], ["collides"])
    return tuple(things) == clip.things and pairs == [((act.shape, act.color), act.deed) for act in clip.acts]


# --- facts ----------------------------------------------------------------------------------------------------------

_FIRST = ("at first ", "first ", "in the beginning ")
_LAST = ("then ", "after that ", "at last ")


def state_facts(clip: Clip, rng: random.Random) -> list[Statement]:
    """A passage of a few sentences that states everything about the clip; only the ground's place is at random."""
    statements = []
    for number, act in enumerate(clip.acts):
        when: tuple[str, ...] = ("", *_FIRST) if number == 0 else _LAST
        when = ("",) if len(clip.acts) == 1 or clip.collision else when
        forms = (
            f"{rng.choice(when)}{_thing(act)} {act.deed}.",
            f"{rng.choice(when)}there is {_thing(act)}. it {act.deed}.",
            f"{rng.choice(when)}a {act.shape} {act.deed}. it is {act.color}.",
        )
        statements.append(Statement(rng.choice(forms), number))
    ground = rng.choice(("the ground is {}.", "the background is {}.", "we see it on a {} ground."))
    statements.insert(rng.choice((0, len(statements))), Statement(ground.format(clip.ground), GROUND))
    return statements


def state_notes(clip: Clip) -> list[Statement]:
    """The same facts as terse notes, always in the same order."""
    acts = [Statement(f"{act.color} {act.shape} {act.deed},", number) for number, act in enumerate(clip.acts)]
    return [*acts, Statement(f"{clip.ground}.", GROUND)]


# --- questions ------------------------------------------------------------------------------------------------------

_THING = ("shape", "object", "thing")
_COLOR = ("color", "color", "colour")


def _names(clip: Clip, act: Act, rng: random.Random) -> str:
    """How a question names the thing that acts."""
    alone = len(clip.things) == 1
    others = [color for shape, color in clip.things if shape != act.shape]
    forms = [f"the {act.shape}", f"the {act.shape}", f"the {act.color} {act.shape}"]
    forms += [f"the {act.color} {rng.choice(_THING)}"] if act.color not in others else []
    forms += [f"the {rng.choice(_THING)}", "it"] if alone else []
    return rng.choice(forms)


def _doer(act: Act, rng: random.Random) -> str:
    """How a question names a thing by what it does."""
    return f"the {rng.choice(_THING)} that {act.deed}"


def _ask_deed(clip: Clip, rng: random.Random) -> Asked | None:
    act = rng.choice(clip.acts)
    name = _names(clip, act, rng)
    twice = len(clip.acts) == 2 and len(clip.things) == 1
    when = ("first" if act is clip.acts[0] else rng.choice(("last", "then"))) if twice else ""
    forms = [f"what does {name} do {when}".rstrip()]
    if len(clip.acts) == 2 and not clip.collision:
        forms += [f"what happens {'first' if act is clip.acts[0] else 'last'}"]
    return Asked("deed", rng.choice(forms), act.deed, clip.numbers(act))


def _ask_direction(clip: Clip, rng: random.Random) -> Asked | None:
    moving = [act for act in clip.acts if act.deed in MOVES]
    if not moving or (len(clip.things) == 1 and len(moving) == 2):
        return None
    act = rng.choice(moving)
    name = _names(clip, act, rng)
    forms = [f"which way does {name} move", f"in which direction does {name} move", f"where does {name} go"]
    return Asked("direction", rng.choice(forms), act.deed.split()[1], clip.numbers(act))


def _ask_shape(clip: Clip, rng: random.Random) -> Asked | None:
    act = rng.choice(clip.acts)
    if clip.collision:
        other = clip.acts[1] if act is clip.acts[0] else clip.acts[0]
        return Asked("shape", f"what collides with the {other.shape}", act.shape, clip.numbers(act))
    thing = rng.choice(_THING)
    forms = [f"what {act.deed}", f"which {thing} {act.deed}", f"what is it that {act.deed}"]
    if len(clip.things) == 1:
        forms += [f"which shape is the {thing}", "what do you see", "which shape is there"]
    else:
        forms += [f"which {thing} acts {'first' if act is clip.acts[0] else 'last'}"]
    if sum(color == act.color for _, color in clip.things) == 1:
        forms += [f"which shape is {act.color}", f"what is the {act.color} {thing}"]
    return Asked("shape", rng.choice(forms), act.shape, clip.numbers(act))


def _ask_color(clip: Clip, rng: random.Random) -> Asked | None:
    act = rng.choice(clip.acts)
    color = rng.choice(_COLOR)
    names = [f"the {act.shape}"]
    names += [] if clip.collision else [_doer(act, rng)]
    names += [f"the {rng.choice(_THING)}"] if len(clip.things) == 1 else []
    if len(clip.things) == 2 and not clip.collision:
        names += [f"the {rng.choice(_THING)} that acts {'first' if act is clip.acts[0] else 'last'}"]
    name = rng.choice(names)
    form = rng.choice((f"what {color} is {name}", f"which {color} is {name}", f"what is the {color} of {name}"))
    return Asked("color", form, act.color, clip.numbers(act))


def _ask_number(clip: Clip, rng: random.Random) -> Asked | None:
    many = rng.choice(("shapes", "objects", "things"))
    form = rng.choice((f"how many {many} are there", f"how many {many} do you see"))
    return Asked("count", form, NUMBERS[len(clip.things)])


def _ask_ground(clip: Clip, rng: random.Random) -> Asked | None:
    pair = list(GROUNDS)
    rng.shuffle(pair)
    forms = [f"is the {rng.choice(('background', 'ground'))} {pair[0]} or {pair[1]}", "what is the background like"]
    return Asked("ground", rng.choice(forms), clip.ground, (GROUND,))


def _ask_presence(clip: Clip, rng: random.Random) -> Asked | None:
    """Is there such a thing, does anything do that, does this thing do that?"""
    act, wanted = rng.choice(clip.acts), rng.random() < 0.5
    mine = [each for each in clip.acts if each.shape == act.shape]
    manner = rng.choice(("shape", "color", "deed", "does", "does"))
    if manner == "shape":
        absent = [shape for shape in SHAPES if shape not in {shape for shape, _ in clip.things}]
        thing = with_article(act.shape if wanted else rng.choice(absent))
        form, evidence = rng.choice((f"is there {thing}", f"do you see {thing}")), act.shape
    elif manner == "color":
        absent = [color for color in COLORS if color not in {color for _, color in clip.things}]
        thing = with_article(f"{act.color if wanted else rng.choice(absent)} {rng.choice(_THING)}")
        form, evidence = rng.choice((f"is there {thing}", f"do you see {thing}")), act.color
    else:
        done = {each.deed for each in (clip.acts if manner == "deed" else mine)}
        others = {each.deed for each in clip.acts} - done  # what the other thing does is the hard no
        wrong = sorted(others) if others and rng.random() < 0.5 else sorted(set(DEEDS) - done)
        said = act.deed if wanted else rng.choice(wrong)
        evidence = act.deed
        form = f"does {_names(clip, act, rng)} {bare(said)}" if manner == "does" else f"does anything {bare(said)}"
    about = clip.numbers(act) if wanted or manner == "does" else ()
    return Asked("presence", form, "yes" if wanted else "no", about, wanted, tuple(evidence.split()))


def _ask_order(clip: Clip, rng: random.Random) -> Asked | None:
    """Which of two acts comes before the other?"""
    if len(clip.acts) == 1 or clip.collision:
        return None
    first, second = rng.sample(clip.acts, 2)
    relation = rng.choice(("before", "after"))
    truth = (first is clip.acts[0]) == (relation == "before")
    if len(clip.things) == 2:
        place = "first" if relation == "before" else "last"
        form = rng.choice(
            (f"does the {first.shape} act {relation} the {second.shape}", f"is it the {first.shape} that acts {place}")
        )
    else:
        form = f"does it {bare(first.deed)} {relation} it {second.deed}"
    return Asked("order", form, "yes" if truth else "no", clip.numbers(first, second))


_ASKERS: tuple[tuple[Callable[[Clip, random.Random], Asked | None], int], ...] = (
    (_ask_deed, 4),
    (_ask_direction, 3),
    (_ask_shape, 4),
    (_ask_color, 4),
    (_ask_number, 1),
    (_ask_ground, 1),
    (_ask_presence, 4),
    (_ask_order, 3),
)


def ask(clip: Clip, rng: random.Random) -> Asked:
    """A question about the clip, its kind at random."""
    askers, weights = zip(*_ASKERS, strict=True)
    while (asked := rng.choices(askers, weights)[0](clip, rng)) is None:
        pass
    return asked


def suppose(clip: Clip, rng: random.Random) -> Asked:
    """A question to be answered by yes or no."""
    while (asked := rng.choice((_ask_presence, _ask_order))(clip, rng)) is None:
        pass
    return asked


NAMES = frozenset(word for name in (*SHAPES, *COLORS, *DEEDS, *map(bare, DEEDS)) for word in name.split())
"""Words by which a question can say which act it is about."""
