"""What can be said and asked about a sound, in varied English: facts, captions, questions, answers, and their judge."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from epalm.toyworld.pictures.world import NUMBERS, SHAPES
from epalm.toyworld.sounds.world import BEDS, LOUDNESS, MOTIONS, Event, Sound
from epalm.toyworld.wording import GROUND, Asked, Statement, plural, with_article


def noun_phrase(event: Event, *, loudness: bool) -> str:
    """Such as 'two loud rising stars'; loudness is left out where it is not asked for."""
    words = [event.loudness] if loudness else []
    phrase = " ".join([*words, event.motion, plural(event.shape, event.count)])
    return with_article(phrase) if event.count == 1 else f"{NUMBERS[event.count]} {phrase}"


# --- captions -------------------------------------------------------------------------------------------------------


def write_caption(sound: Sound, rng: random.Random) -> str:
    """A caption that names every event in the order of time: count, motion and shape always; more at random."""
    loudness = rng.random() < 0.5
    phrases = [noun_phrase(event, loudness=loudness) for event in sound.events]
    sequence = rng.choice((", then ", " and then ")).join(phrases)
    if sound.bed != "silence" and rng.random() < 0.4:
        sequence += rng.choice((f" over {sound.bed}", f" with {sound.bed} in the background"))
    return (
        rng.choice(("{}", "{}", "we hear {}", "the sound of {}", "there {be} {}")).format(
            sequence, be="is" if sound.events[0].count == 1 else "are"
        )
        + "."
    )


_NOUNS = {plural(shape, count): shape for shape in SHAPES for count in (1, 2)}
_COUNTS = {"a": 1, "an": 1, **{word: count for count, word in enumerate(NUMBERS)}}
_PHRASE = re.compile(
    rf"\b(?P<count>{'|'.join(_COUNTS)})"
    rf"(?: (?P<loudness>{'|'.join(LOUDNESS)}))?"
    rf" (?P<motion>{'|'.join(MOTIONS)})"
    rf" (?P<shape>{'|'.join(sorted(_NOUNS, key=len, reverse=True))})\b"
)


def caption_is_right(caption: str, sound: Sound) -> bool:
    """Whether the caption names every event, in the order of time, and nothing that it says is wrong."""
    text = caption.lower()
    if len(re.findall(rf"\b(?:{'|'.join(_NOUNS)})\b", text)) != len(sound.events):
        return False
    if any(bed != sound.bed for bed in re.findall(rf"\b(?:{'|'.join(BEDS)})\b", text)):
        return False
    phrases = list(_PHRASE.finditer(text))
    return len(phrases) == len(sound.events) and all(
        (_NOUNS[said["shape"]], said["motion"], _COUNTS[said["count"]]) == (event.shape, event.motion, event.count)
        and said["loudness"] in (None, event.loudness)
        for said, event in zip(phrases, sound.events, strict=True)
    )


# --- facts ----------------------------------------------------------------------------------------------------------


def state_facts(sound: Sound, rng: random.Random) -> list[Statement]:
    """A passage of a few sentences that states everything about the sound; only the bed's place is at random."""
    statements = []
    for number, event in enumerate(sound.events):
        when = (
            ""
            if len(sound.events) == 1
            else rng.choice(("first ", "at first ") if number == 0 else ("then ", "after that "))
        )
        noun, be = plural(event.shape, event.count), "is" if event.count == 1 else "are"
        it = "it is" if event.count == 1 else "they are"
        many = NUMBERS[event.count]
        forms = (
            f"{when}we hear {many} {event.loudness} {event.motion} {noun}.",
            f"{when}there {be} {many} {event.loudness} {event.motion} {noun}.",
            f"{when}we hear {many} {noun}. {it} {event.motion} and {event.loudness}.",
            f"{when}there {be} {many} {event.motion} {noun}. {it} {event.loudness}.",
        )
        statements.append(Statement(rng.choice(forms), number))
    bed = rng.choice(("there is {} in the background.", "the background is {}.", "behind it is {}."))
    statements.insert(rng.choice((0, len(statements))), Statement(bed.format(sound.bed), GROUND))
    return statements


def state_notes(sound: Sound) -> list[Statement]:
    """The same facts as terse notes, always in the same order."""
    events = [
        Statement(f"{NUMBERS[event.count]} {event.loudness} {event.motion} {event.shape},", number)
        for number, event in enumerate(sound.events)
    ]
    return [*events, Statement(f"{sound.bed}.", GROUND)]


# --- questions ------------------------------------------------------------------------------------------------------

_VOICE = ("shape", "voice", "thing")


def _name(event: Event) -> str:
    return plural(event.shape, event.count)


def _be(event: Event) -> str:
    return "is" if event.count == 1 else "are"


def _ask_shape(sound: Sound, rng: random.Random) -> Asked | None:
    event = rng.choice(sound.events)
    voice = rng.choice(_VOICE)
    if len(sound.events) == 1:
        forms = ["what do you hear", f"which {voice} do you hear", f"what {voice} is there"]
    else:
        first = event is sound.events[0]
        other = sound.events[1] if first else sound.events[0]
        order = "first" if first else "last"
        forms = [
            f"what do you hear {order}",
            f"which {voice} comes {order}",
            f"what comes {'before' if first else 'after'} the {_name(other)}",
        ]
        forms += [f"which {voice} is {event.motion}"] if other.motion != event.motion else []
        forms += [f"which {voice} is {event.loudness}"] if other.loudness != event.loudness else []
    return Asked("shape", rng.choice(forms), event.shape, sound.numbers(event))


def _ask_motion(sound: Sound, rng: random.Random) -> Asked | None:
    event = rng.choice(sound.events)
    forms = [
        f"what is the pitch of the {_name(event)}",
        f"{_be(event)} the {_name(event)} rising, falling or steady",
        f"what is the motion of the {_name(event)}",
    ]
    if len(sound.events) == 1:
        forms += ["what is the pitch like", "is the pitch rising, falling or steady"]
    else:
        forms += [f"what is the pitch like at {'first' if event is sound.events[0] else 'last'}"]
    return Asked("motion", rng.choice(forms), event.motion, sound.numbers(event))


def _ask_loudness(sound: Sound, rng: random.Random) -> Asked | None:
    event = rng.choice(sound.events)
    pair = list(LOUDNESS)
    rng.shuffle(pair)
    forms = [f"{_be(event)} the {_name(event)} {pair[0]} or {pair[1]}", f"how loud {_be(event)} the {_name(event)}"]
    return Asked("loudness", rng.choice(forms), event.loudness, sound.numbers(event))


def _ask_count(sound: Sound, rng: random.Random) -> Asked | None:
    if rng.random() < 0.12:
        absent = rng.choice([shape for shape in SHAPES if sound.with_shape(shape) is None])
        return Asked("count", f"how many {plural(absent, 2)} do you hear", NUMBERS[0])
    event = rng.choice(sound.events)
    many = plural(event.shape, 2)
    forms = [f"how many {many} do you hear", f"how many {many} are there", f"what is the number of {many}"]
    return Asked("count", rng.choice(forms), NUMBERS[event.count], sound.numbers(event))


def _ask_bed(sound: Sound, rng: random.Random) -> Asked | None:
    if rng.random() < 0.4:
        wanted = rng.random() < 0.5
        said = sound.bed if wanted else rng.choice([bed for bed in BEDS if bed != sound.bed])
        answer = "yes" if wanted else "no"
        return Asked("bed", f"is there {said} in the background", answer, (GROUND,), wanted, (sound.bed,))
    return Asked("bed", rng.choice(("what is in the background", "what is the background like")), sound.bed, (GROUND,))


def _ask_presence(sound: Sound, rng: random.Random) -> Asked | None:
    """Is there such a voice? A motion that is another voice's is the hard no."""
    event, wanted = rng.choice(sound.events), rng.random() < 0.5
    about = sound.numbers(event)
    if rng.random() < 0.5:
        absent = [shape for shape in SHAPES if sound.with_shape(shape) is None]
        thing, evidence = (event.shape if wanted else rng.choice(absent)), _name(event)
        about = about if wanted else ()
    else:
        wrong = [motion for motion in MOTIONS if motion != event.motion]
        thing, evidence = f"{event.motion if wanted else rng.choice(wrong)} {event.shape}", event.motion
    thing = with_article(thing)
    form = rng.choice((f"is there {thing}", f"do you hear {thing}", f"can you hear {thing}"))
    return Asked("presence", form, "yes" if wanted else "no", about, wanted, (evidence,))


def _ask_property(sound: Sound, rng: random.Random) -> Asked | None:
    """Is the star rising? Are the circles loud?"""
    event, wanted = rng.choice(sound.events), rng.random() < 0.5
    right, choices = rng.choice(((event.motion, MOTIONS), (event.loudness, LOUDNESS)))
    said = right if wanted else rng.choice([choice for choice in choices if choice != right])
    form = f"{_be(event)} the {_name(event)} {said}"
    return Asked("property", form, "yes" if wanted else "no", sound.numbers(event), wanted, (right,))


def _ask_comparison(sound: Sound, rng: random.Random) -> Asked | None:
    """Two events held against each other: order, number, loudness."""
    if len(sound.events) < 2:
        return None
    first, second = rng.sample(sound.events, 2)
    relation = rng.choice(("before", "after"))
    come = "does" if first.count == 1 else "do"
    options = [
        (
            f"{come} the {_name(first)} come {relation} the {_name(second)}",
            (first is sound.events[0]) == (relation == "before"),
        )
    ]
    names = plural(first.shape, 2), plural(second.shape, 2)
    if first.count != second.count:
        options += [
            (f"are there more {names[0]} than {names[1]}", first.count > second.count),
            (f"are there fewer {names[0]} than {names[1]}", first.count < second.count),
        ]
    if first.loudness != second.loudness:
        options += [(f"{_be(first)} the {_name(first)} louder than the {_name(second)}", first.loudness == "loud")]
    question, truth = rng.choice(options)
    return Asked("comparison", question, "yes" if truth else "no", sound.numbers(first, second))


_ASKERS: tuple[tuple[Callable[[Sound, random.Random], Asked | None], int], ...] = (
    (_ask_shape, 5),
    (_ask_motion, 4),
    (_ask_loudness, 2),
    (_ask_count, 3),
    (_ask_bed, 2),
    (_ask_presence, 3),
    (_ask_property, 2),
    (_ask_comparison, 3),
)


def ask(sound: Sound, rng: random.Random) -> Asked:
    """A question about the sound, its kind at random."""
    askers, weights = zip(*_ASKERS, strict=True)
    while (asked := rng.choices(askers, weights)[0](sound, rng)) is None:
        pass
    return asked


def suppose(sound: Sound, rng: random.Random) -> Asked:
    """A question to be answered by yes or no."""
    while (asked := rng.choice((_ask_presence, _ask_property, _ask_comparison))(sound, rng)) is None:
        pass
    return asked


NAMES = frozenset((*SHAPES, *(plural(shape, 2) for shape in SHAPES), *MOTIONS, *LOUDNESS))
"""Words by which a question can say which event it is about."""
