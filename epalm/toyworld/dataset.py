"""Writes toy pictures, clips and sounds with captions and questions to disk, in the form of anybody's own data."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

from epalm.data.manifest import write_manifest
from epalm.data.rows import Row
from epalm.toyworld.clips.render import draw_frames, save_clip
from epalm.toyworld.clips.world import Act, Clip
from epalm.toyworld.pairs import Pair
from epalm.toyworld.pictures.render import draw_picture
from epalm.toyworld.pictures.world import Group, Scene
from epalm.toyworld.sounds.synthesize import save_sound, synthesize
from epalm.toyworld.sounds.world import Event, Sound
from epalm.toyworld.worlds import WORLDS, Thing

_SUFFIXES = {"image": "png", "video": "mp4", "audio": "wav"}


def write_dataset(
    folder: Path,
    number: int,
    *,
    seed: int,
    kind: str = "image",
    held_out: bool = False,
    captions: int = 2,
    questions: int = 8,
) -> None:
    """Draw that many things into `folder`: their files, `all.jsonl`, and `truths.jsonl` with what is truly in them.

    Args:
        folder: made where it is not there; files of the same name are replaced.
        number: of things.
        seed: the same seed gives the same things; of clips the encoder may write other bytes in another process.
        kind: a key of `WORLDS`, such as `image` or `video+audio`.
        held_out: of combinations that no training set holds, and of nothing else.
        captions: of each thing, where its kind has captions.
        questions: about each thing.
    """
    world = WORLDS[kind]
    rng = random.Random(f"dataset {kind} {seed} {held_out}")
    rows, truths = [], []
    for modality in kind.split("+"):
        (folder / modality).mkdir(parents=True, exist_ok=True)
    for count in range(number):
        thing = world.draw(rng, held_out=held_out)
        files = {modality: f"{modality}/{count:05d}.{_SUFFIXES[modality]}" for modality in kind.split("+")}
        for modality, file in files.items():
            _write(_part(thing, modality), folder / file, rng)
        media = {modality: folder / file for modality, file in files.items()}
        if world.caption and captions:
            rows.append(Row(media, targets=tuple(world.caption(thing, rng) for _ in range(captions))))
        asked = [world.ask(thing, rng) for _ in range(questions)]
        rows += [Row(media, question=f"{question.question}?", targets=(question.answer,)) for question in asked]
        truths.append(json.dumps({"files": files, "thing": asdict(thing)}) + "\n")
    write_manifest(rows, folder / "all.jsonl")
    (folder / "truths.jsonl").write_text("".join(truths), encoding="utf-8")


def read_truths(folder: Path) -> dict[Path, Thing]:
    """What is truly in each file of a set of one modality."""
    truths = {}
    for line in (folder / "truths.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        ((modality, file),) = row["files"].items()
        truths[folder / file] = _revived(modality, row["thing"])
    return truths


def _part(thing: Thing, modality: str) -> Scene | Clip | Sound:
    """What of a thing is perceived by that modality."""
    if isinstance(thing, Pair):
        return thing.heard if modality == "audio" else thing.seen
    part: Scene | Clip | Sound = thing
    return part


def _write(part: Scene | Clip | Sound, path: Path, rng: random.Random) -> None:
    if isinstance(part, Scene):
        draw_picture(part, rng).save(path, compress_level=1)
    elif isinstance(part, Clip):
        save_clip(draw_frames(part, rng), path)
    else:
        save_sound(synthesize(part, rng), path)


def _revived(modality: str, values: dict[str, Any]) -> Thing:
    """A thing from its fields."""
    if modality == "image":
        return Scene(values["ground"], tuple(Group(**group) for group in values["groups"]))
    if modality == "video":
        return Clip(values["ground"], tuple(Act(**act) for act in values["acts"]))
    return Sound(values["bed"], tuple(Event(**event) for event in values["events"]))
