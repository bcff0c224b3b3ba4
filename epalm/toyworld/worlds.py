"""The five kinds of things in the toy world: pictures, clips, sounds, and pairs of what is seen and what is heard."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from epalm.toyworld import pairs
from epalm.toyworld.clips import language as clip_words
from epalm.toyworld.clips.world import Clip, draw_clip
from epalm.toyworld.pictures import language as picture_words
from epalm.toyworld.pictures.judge import caption_is_right as picture_caption_is_right
from epalm.toyworld.pictures.world import Scene, draw_scene
from epalm.toyworld.sounds import language as sound_words
from epalm.toyworld.sounds.world import draw_sound
from epalm.toyworld.wording import Asked, Statement

Thing = Any
"""A `Scene`, a `Clip`, a `Sound` or a `Pair`."""


@dataclass(frozen=True)
class World:
    """How things of one kind are drawn at random, and what is said and asked about them."""

    draw: Callable[..., Thing]
    """Called with a random generator, and `held_out` for combinations that no training set holds."""
    facts: Callable[[Thing, random.Random], list[Statement]]
    """A passage that states everything."""
    notes: Callable[[Thing], dict[str, list[Statement]]]
    """The same facts as terse notes, by modality."""
    ask: Callable[[Thing, random.Random], Asked]
    """A question, its kind at random."""
    suppose: Callable[[Thing, random.Random], Asked]
    """A question to be answered by yes or no, where there are such of their own."""
    caption: Callable[[Thing, random.Random], str] | None = None
    """A caption; pairs have none."""
    judge: Callable[[str, Thing], bool] | None = None
    """Whether a caption is right."""


def _notes_of_pair(pair: pairs.Pair) -> dict[str, list[Statement]]:
    heard = [Statement(note.text) for note in sound_words.state_notes(pair.heard)]
    if isinstance(pair.seen, Clip):
        return {"video": clip_words.state_notes(pair.seen), "audio": heard}
    return {"image": picture_words.state_notes(pair.seen), "audio": heard}


WORLDS: dict[str, World] = {
    "image": World(
        draw_scene,
        picture_words.state_facts,
        lambda scene: {"image": picture_words.state_notes(scene)},
        picture_words.ask,
        picture_words.suppose,
        picture_words.write_caption,
        picture_caption_is_right,
    ),
    "video": World(
        draw_clip,
        clip_words.state_facts,
        lambda clip: {"video": clip_words.state_notes(clip)},
        clip_words.ask,
        clip_words.suppose,
        clip_words.write_caption,
        clip_words.caption_is_right,
    ),
    "audio": World(
        draw_sound,
        sound_words.state_facts,
        lambda sound: {"audio": sound_words.state_notes(sound)},
        sound_words.ask,
        sound_words.suppose,
        sound_words.write_caption,
        sound_words.caption_is_right,
    ),
    "image+audio": World(partial(pairs.draw_pair, of=Scene), pairs.state_facts, _notes_of_pair, pairs.ask, pairs.ask),
    "video+audio": World(partial(pairs.draw_pair, of=Clip), pairs.state_facts, _notes_of_pair, pairs.ask, pairs.ask),
}
"""By what is perceived."""
NAMES = frozenset((*picture_words.NAMES, *clip_words.NAMES, *sound_words.NAMES))
"""Words by which a question can say what it is about."""
