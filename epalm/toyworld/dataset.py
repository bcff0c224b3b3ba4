"""Writes sets of toy-world pictures with captions and questions to disk, in the form of anybody's own data."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path

from epalm.data.manifest import write_manifest
from epalm.data.rows import Row
from epalm.toyworld.pictures.language import ask, write_caption
from epalm.toyworld.pictures.render import draw_picture
from epalm.toyworld.pictures.world import Group, Scene, draw_scene


def write_dataset(
    folder: Path, scenes: int, *, seed: int, held_out: bool = False, captions: int = 2, questions: int = 8
) -> None:
    """Draw that many scenes into `folder`: `images/`, `captions.jsonl`, `questions.jsonl`, `all.jsonl`, `scenes.jsonl`.

    Args:
        folder: made where it is not there; files of the same name are replaced.
        scenes: how many.
        seed: the same seed gives the same files.
        held_out: of combinations that no training set holds, and of nothing else.
        captions: a scene.
        questions: a scene.
    """
    rng = random.Random(f"dataset {seed} {held_out}")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    captioned, asked, truths = [], [], []
    for number in range(scenes):
        scene = draw_scene(rng, held_out=held_out)
        name = f"images/{number:05d}.png"
        media = {"image": folder / name}
        draw_picture(scene, rng).save(folder / name, compress_level=1)
        captioned.append(Row(media, targets=tuple(write_caption(scene, rng) for _ in range(captions))))
        questioned = [ask(scene, rng) for _ in range(questions)]
        asked += [Row(media, question=f"{one.question}?", targets=(one.answer,)) for one in questioned]
        truths.append(json.dumps({"image": name, **asdict(scene)}) + "\n")
    write_manifest(captioned, folder / "captions.jsonl")
    write_manifest(asked, folder / "questions.jsonl")
    write_manifest([*captioned, *asked], folder / "all.jsonl")
    (folder / "scenes.jsonl").write_text("".join(truths), encoding="utf-8")


def read_scenes(folder: Path) -> dict[str, Scene]:
    """What is truly in each picture: file name, such as `images/00000.png` -> scene."""
    scenes = {}
    for line in (folder / "scenes.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        scenes[row["image"]] = Scene(row["ground"], tuple(Group(**group) for group in row["groups"]))
    return scenes
