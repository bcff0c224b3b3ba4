"""Toy data on disk are data like anybody's."""

import random

import pytest

from epalm.data.manifest import read_manifest
from epalm.media import load_media
from epalm.toyworld import pairs
from epalm.toyworld.clips.world import Clip
from epalm.toyworld.dataset import read_truths, write_dataset
from epalm.toyworld.pictures.world import Scene, is_held_out
from epalm.toyworld.worlds import WORLDS

READING = {"image": {}, "video": {"frames": 8}, "audio": {"rate": 16_000}}


@pytest.mark.parametrize("kind", ["image", "video", "audio"])
def test_a_dataset_is_a_valid_manifest_and_its_captions_are_true(tmp_path, kind):
    write_dataset(tmp_path, 12, seed=3, kind=kind, captions=2, questions=4)
    rows = read_manifest(tmp_path / "all.jsonl")
    truths = read_truths(tmp_path)
    captions = [row for row in rows if row.task == "captioning"]
    assert len(truths) == len(captions) == 12
    assert len(rows) == 12 + 12 * 4
    for row in captions:
        assert all(WORLDS[kind].judge(caption, truths[row.media[kind]]) for caption in row.targets)
        load_media(kind, row.media[kind], **READING[kind])


@pytest.mark.parametrize("kind", ["image+audio", "video+audio"])
def test_pairs_bring_two_files_and_questions_alone(tmp_path, kind):
    write_dataset(tmp_path, 6, seed=3, kind=kind, questions=3)
    rows = read_manifest(tmp_path / "all.jsonl")
    assert len(rows) == 18
    assert {frozenset(row.media) for row in rows} == {frozenset(kind.split("+"))}


def test_the_same_seed_gives_the_same_files(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_dataset(tmp_path / name, 3, seed=seed)
    files = [
        {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in "abc"
    ]
    assert files[0] == files[1]
    assert files[0]["image/00000.png"] != files[2]["image/00000.png"]


def test_held_out_sets_hold_nothing_else(tmp_path):
    write_dataset(tmp_path / "training", 200, seed=0)
    write_dataset(tmp_path / "test", 200, seed=0, held_out=True)

    def looks(folder):
        groups = [group for scene in read_truths(tmp_path / folder).values() for group in scene.groups]
        return {is_held_out(group.shape, group.color, group.texture) for group in groups}

    assert looks("training") == {False}
    assert looks("test") == {True}


@pytest.mark.parametrize("of", [Scene, Clip])
def test_a_question_about_a_pair_takes_both(of):
    """Whoever knows only what is seen, or only what is heard, meets yes and no about as often."""
    rng = random.Random(0)
    answers = {}
    for _ in range(6000):
        pair = pairs.draw_pair(rng, of=of)
        asked = pairs.ask(pair, rng)
        if asked.answer in ("yes", "no"):
            for known in (len(pair.shapes), pair.voice):
                answers.setdefault(known, []).append(asked.answer == "yes")
    assert all(0.4 < sum(said) / len(said) < 0.6 for said in answers.values())
