"""Toy data on disk are data like anybody's."""

from epalm.data.manifest import read_manifest
from epalm.toyworld.dataset import read_scenes, write_dataset
from epalm.toyworld.pictures.judge import caption_is_right
from epalm.toyworld.pictures.world import is_held_out


def test_a_dataset_is_a_valid_manifest_and_its_captions_are_true(tmp_path):
    write_dataset(tmp_path, 20, seed=3, captions=2, questions=4)
    rows = read_manifest(tmp_path / "all.jsonl")
    scenes = read_scenes(tmp_path)
    captions = [row for row in rows if row.task == "captioning"]
    assert len(scenes) == len(captions) == 20
    assert len(rows) == 20 + 20 * 4
    assert len(read_manifest(tmp_path / "questions.jsonl")) == 80
    for row in captions:
        scene = scenes["/".join(row.media["image"].parts[-2:])]
        assert all(caption_is_right(caption, scene) for caption in row.targets)


def test_the_same_seed_gives_the_same_files(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_dataset(tmp_path / name, 3, seed=seed)
    files = [
        {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in "abc"
    ]
    assert files[0] == files[1]
    assert files[0]["images/00000.png"] != files[2]["images/00000.png"]


def test_held_out_sets_hold_nothing_else(tmp_path):
    write_dataset(tmp_path / "training", 200, seed=0)
    write_dataset(tmp_path / "test", 200, seed=0, held_out=True)

    def looks(folder):
        groups = [group for scene in read_scenes(tmp_path / folder).values() for group in scene.groups]
        return {is_held_out(group.shape, group.color, group.texture) for group in groups}

    assert looks("training") == {False}
    assert looks("test") == {True}
