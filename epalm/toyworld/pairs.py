"""Something to see together with something to hear, and questions that take both: eyes alone or ears alone must guess.

What is seen is a picture or a clip; what is heard is a single voice, about half of the time the voice of a thing that
is seen.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from epalm.toyworld.clips import language as clip_words
from epalm.toyworld.clips.world import Clip, draw_clip
from epalm.toyworld.pictures import language as picture_words
from epalm.toyworld.pictures.world import COUNTS, NUMBERS, SHAPES, Scene, draw_scene
from epalm.toyworld.sounds import language as sound_words
from epalm.toyworld.sounds.world import Sound, draw_sound, is_held_out
from epalm.toyworld.wording import Asked, Statement


@dataclass(frozen=True)
class Pair:
    """What is seen and what is heard at once."""

    seen: Scene | Clip
    heard: Sound

    @property
    def voice(self) -> str:
        """The shape that is heard."""
        return self.heard.events[0].shape

    @property
    def shapes(self) -> tuple[str, ...]:
        """The shapes that are seen."""
        return _shapes_of(self.seen)


def _shapes_of(seen: Scene | Clip) -> tuple[str, ...]:
    if isinstance(seen, Clip):
        return tuple(shape for shape, _ in seen.things)
    return tuple(group.shape for group in seen.groups)


def draw_pair(rng: random.Random, *, held_out: bool = False, of: type[Scene] | type[Clip] = Scene) -> Pair:
    """A random pair; what is heard is seen so often that questions are answered by yes as often as by no.

    (What is heard and not seen can be asked about in fewer ways.) Half of the groups are seen as often as heard.
    """
    seen: Scene | Clip = draw_clip(rng, held_out=held_out) if of is Clip else draw_scene(rng, held_out=held_out)
    shapes = _shapes_of(seen)
    wanted = rng.choice(shapes) if rng.random() < 0.6 else rng.choice([s for s in SHAPES if s not in shapes])
    count = rng.choice(COUNTS)
    if isinstance(seen, Scene) and rng.random() < 0.5:
        count = rng.choice(seen.groups).count
    while True:
        sound = draw_sound(rng, held_out=held_out, events=1)
        event = replace(sound.events[0], shape=wanted, count=count)
        if is_held_out(event.shape, event.motion, event.loudness, event.count) == held_out:
            return Pair(seen, replace(sound, events=(event,)))


def state_facts(pair: Pair, rng: random.Random) -> list[Statement]:
    """What is seen, then what is heard, as passages of their own."""
    heard = [replace(fact, about=None) for fact in sound_words.state_facts(pair.heard, rng)]
    if isinstance(pair.seen, Clip):
        return [*clip_words.state_facts(pair.seen, rng), *heard]
    return [*picture_words.state_facts(pair.seen, rng), *heard]


_HEARD = ("the thing you hear", "the shape you hear", "what you hear")


def ask(pair: Pair, rng: random.Random) -> Asked:
    """A question that takes both, its kind at random."""
    while (asked := rng.choice((_ask_same, _ask_same, _ask_what))(pair, rng)) is None:
        pass
    return asked


def _ask_same(pair: Pair, rng: random.Random) -> Asked | None:
    """Do eyes and ears meet the same thing, or as many?"""
    heard = rng.choice(_HEARD)
    if isinstance(pair.seen, Scene) and len(pair.shapes) == 1 and rng.random() < 0.3:
        same = pair.seen.groups[0].count == pair.heard.events[0].count
        return Asked("joint", "do you see as many as you hear", "yes" if same else "no")
    same = pair.voice in pair.shapes
    forms = [f"do you see {heard}", f"can you see {heard}", f"is {heard} there to see"]
    if len(pair.shapes) == 1:
        forms += [
            f"is {heard} the thing you see",
            "is the thing you hear the thing you see",
            "do you hear what you see",
        ]
    return Asked("joint", rng.choice(forms), "yes" if same else "no")


def _ask_what(pair: Pair, rng: random.Random) -> Asked | None:
    """What is the thing like whose voice is heard?"""
    if pair.voice not in pair.shapes:
        return None
    heard = rng.choice(_HEARD)
    options: list[tuple[str, str, int]] = []
    if isinstance(pair.seen, Clip):
        acts = [act for act in pair.seen.acts if act.shape == pair.voice]
        number = pair.seen.acts.index(acts[0])
        options.append((f"what color is {heard}", acts[0].color, number))
        if len(acts) == 1 and not pair.seen.collision:
            options.append((f"what does {heard} do", acts[0].deed, number))
    else:
        group = pair.seen.with_shape(pair.voice)
        assert group is not None
        number = pair.seen.groups.index(group)
        options = [
            (f"what color is {heard}", group.color, number),
            (f"where is {heard}", group.place, number),
            (f"how many of {heard} do you see", NUMBERS[group.count], number),
            (f"what is the texture of {heard}", group.texture, number),
        ]
    question, answer, number = rng.choice(options)
    return Asked("joint", question, answer, (number,))
