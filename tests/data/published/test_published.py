"""What all readers share: finding files, and what is said where they are not there or not as they should be."""

import pytest
from data.published.published_layouts import fill, read

from epalm.data.published import Folder, dataset_names, get_dataset
from epalm.errors import ConfigError, DataError
from epalm.metrics.result_files import RESULT_FORMATS

CAPTIONS = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "caption": "x"}]}


def test_names():
    assert {"coco_captions", "vqav2", "gqa", "msrvtt_captions", "msrvtt_qa", "msvd_qa", "audiocaps", "clotho"} < set(
        dataset_names()
    )
    with pytest.raises(ConfigError, match=r"^unknown data set 'vqa2'; did you mean 'vqav2'\?$"):
        get_dataset("vqa2")
    with pytest.raises(ConfigError, match=r"did you mean 'vizwiz_captions' or 'vizwiz_vqa'\?$"):
        get_dataset("vizwiz")
    with pytest.raises(ConfigError, match=r"choose from audiocaps, clotho"):
        get_dataset("zzzz")


@pytest.mark.parametrize("name", dataset_names())
def test_every_data_set_says_where_it_is_to_be_had_and_how_it_is_predicted(name, tmp_path):
    dataset = get_dataset(name)
    assert dataset.home.startswith("https://")
    assert dataset.results in RESULT_FORMATS
    for split in dataset.splits:
        with pytest.raises(DataError) as refused:
            read(name, tmp_path, split)
        assert f"no annotations of {name} {split}; it is read from {dataset.files_of(split)}" in str(refused.value)
        assert "?" not in dataset.files_of(split)
    with pytest.raises(ConfigError, match=f"{name} has no split 'nope'; choose from "):
        read(name, tmp_path, "nope")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"captions_val2014\.json: is not JSON .*; the download may be incomplete"),
        ({"images": [{"id": 1}]}, r"captions_val2014\.json: not laid out as COCO captions is published, .*'file_name'"),
        ([1, 2], r"not laid out as COCO captions is published"),
        (
            "version https://git-lfs.github.com/spec/v1\n",
            r"val2014\.json: cannot be read; it is a pointer of Git LFS: fetch",
        ),
    ],
)
def test_damaged_annotations(tmp_path, content, message):
    fill(tmp_path, {"captions_val2014.json": content})
    with pytest.raises(DataError, match=message):
        read("coco_captions", tmp_path, "val2014")


def test_no_directory(tmp_path):
    with pytest.raises(DataError, match="none: no such directory"):
        Folder(tmp_path / "none")


def test_files_are_found_however_they_were_sorted(tmp_path):
    fill(tmp_path, media=["deep/er/a.jpg", "b.JPG", "c.png", "test/d.jpg", "train/d.jpg", "e.txt", "x.y.wav"])
    folder = Folder(tmp_path)
    assert folder.media("image", ["none.jpg", "a.jpg"]) == tmp_path / "deep/er/a.jpg"
    assert folder.media("image", ["b.jpg"]) == tmp_path / "b.JPG"
    assert folder.media("image", ["c"]) == tmp_path / "c.png"
    assert folder.media("image", ["d.jpg"], "train") == tmp_path / "train/d.jpg"
    assert folder.media("image", ["d.jpg"], "karpathy_test") == tmp_path / "test/d.jpg"
    assert folder.media("image", ["e"]) is None
    assert folder.media("audio", ["x.y"]) == tmp_path / "x.y.wav"
    assert folder.file(["nope", "e.txt"]) == tmp_path / "e.txt"


def test_links_to_directories_are_followed_and_may_go_in_circles(tmp_path):
    fill(tmp_path / "elsewhere", media=["a.jpg"])
    root = fill(tmp_path / "root", {"captions_val2014.json": CAPTIONS})
    (root / "images").symlink_to(tmp_path / "elsewhere")
    (root / "again").symlink_to(root)
    assert read("coco_captions", root, "val2014").rows[0].media == {"image": root / "images/a.jpg"}
