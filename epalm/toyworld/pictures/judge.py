"""Judges a caption against the scene it is about: is every named attribute right, and is every group named?"""

from __future__ import annotations

import re

from epalm.toyworld.pictures.language import plural
from epalm.toyworld.pictures.world import COLORS, NUMBERS, PLACES, SHAPES, SIZES, TEXTURES, Scene

_NOUNS = {plural(shape, count): shape for shape in SHAPES for count in (1, 2)}
_COUNTS = {"a": 1, "an": 1, **{word: count for count, word in enumerate(NUMBERS)}}
_PHRASE = re.compile(
    rf"\b(?P<count>{'|'.join(_COUNTS)})"
    rf"(?: (?P<size>{'|'.join(SIZES)}))?"
    rf"(?: (?P<texture>{'|'.join(TEXTURES)}))?"
    rf"(?: (?P<color>{'|'.join(COLORS)}))?"
    rf" (?P<shape>{'|'.join(sorted(_NOUNS, key=len, reverse=True))})\b"
    rf"(?: in the (?P<place>{'|'.join(PLACES)}))?"
)


def caption_is_right(caption: str, scene: Scene) -> bool:
    """Whether the caption names every group of the scene, once, and nothing it says of one is wrong.

    Count, colour and shape must be said of each; size, texture and place count where they are said. Shapes outside the
    understood phrases (one without a number, say) make the caption wrong.
    """
    phrases = list(_PHRASE.finditer(caption.lower()))
    nouns = re.findall(rf"\b(?:{'|'.join(_NOUNS)})\b", caption.lower())
    if len(phrases) != len(nouns) or len(phrases) != len(scene.groups):
        return False
    named = set()
    for phrase in phrases:
        group = scene.with_shape(_NOUNS[phrase["shape"]])
        if group is None or group.shape in named or phrase["color"] is None:
            return False
        named.add(group.shape)
        said = {
            attribute: phrase[attribute] for attribute in ("size", "texture", "color", "place") if phrase[attribute]
        }
        if any(getattr(group, attribute) != value for attribute, value in said.items()):
            return False
        if _COUNTS[phrase["count"]] != group.count:
            return False
    return True
