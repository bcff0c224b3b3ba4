"""Paths that were written on another system than the one whose disk holds the files."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from data.published.published_layouts import fill, read

from epalm.data.manifest import read_manifest
from epalm.data.media_finder import MediaFinder
from epalm.errors import DataError

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def manifest(folder: Path, *paths: str) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"image": each, "caption": "x"}) + "\n" for each in paths), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("on_disk", "written", "difference"),
    [
        (f"{NFD}/{NFD}.jpg", f"{NFC}/{NFC}.jpg", "another Unicode normalisation"),
        (f"{NFC}.jpg", f"{NFD}.jpg", "another Unicode normalisation"),
        ("a/b/0.jpg", "a\\b\\0.jpg", "backslashes between directories"),
        (f"a/{NFD}.jpg", f".\\a\\{NFC}.jpg", "backslashes between directories and another Unicode normalisation"),
        ("a b/0#1.jpg", "a%20b/0%231.jpg", "percent-encoding"),
        ("a/0.jpg", "file://a/0.jpg", "a file:// URL"),
        ("a\\b.jpg", "a\\b.jpg", ""),
        ("50%25.jpg", "50%25.jpg", ""),
    ],
)
def test_one_file_in_two_spellings(tmp_path: Path, on_disk: str, written: str, difference: str) -> None:
    fill(tmp_path, media=[on_disk])
    notes: list[str] = []
    (row,) = read_manifest(manifest(tmp_path, written), on_note=notes.append)
    assert row.media["image"].samefile(tmp_path / on_disk)
    found = "1 of 1 media files are there under another spelling of their path"
    assert notes == ([f"{tmp_path}/rows.jsonl: {found}: {written!r} (row 1) has {difference}"] if difference else [])


def test_urls_of_files_and_absolute_paths(tmp_path: Path) -> None:
    fill(tmp_path, media=["a b.jpg"])
    path = tmp_path / "a b.jpg"
    for written in (path.as_uri(), f"file://localhost{tmp_path}/a%20b.jpg", f"file:{path}", str(path)):
        (row,) = read_manifest(manifest(tmp_path, written))
        assert row.media["image"].samefile(path)


def test_what_might_mean_two_files_means_none(tmp_path: Path) -> None:
    both = "e\u0323\u0307", "\u1eb9\u0307", "\u0117\u0323"  # one letter, in three ways
    if len(list(fill(tmp_path, media=[f"{name}.jpg" for name in both[:2]]).iterdir())) < 2:
        pytest.skip("the disk takes the names for one")
    assert MediaFinder().find(tmp_path, f"{both[2]}.jpg") is None


@pytest.mark.parametrize(
    ("on_disk", "written", "hint"),
    [
        ("A/Dog.JPG", "a/dog.jpg", "'A/Dog.JPG' is there, which differs in upper and lower case"),
        ("a/0.jpeg", "a/0.jpg", "'a/0.jpeg' is there, which ends in another way"),
        ("a/0.QOI", "a/0.jpg", "'a/0.QOI' is there, which ends in another way"),
        ("a/0.jpg", "/home/else/a/0.jpg", "'a/0.jpg' is there: leave out the directories before it"),
        ("a/0.jpg", "C:\\data\\a\\0.jpg", "'a/0.jpg' is there: leave out the directories before it"),
        ("a/0.jpg", "https://host/a/0.jpg", "'https://host/a/0.jpg' is a web address: download the file"),
        ("a/0.txt", "a/0.jpg", "put the files there or correct the paths"),
    ],
)
def test_the_nearest_file_is_named_but_not_taken(tmp_path: Path, on_disk: str, written: str, hint: str) -> None:
    fill(tmp_path, media=[on_disk])
    with pytest.raises(DataError, match="row 1: 1 of 1 media files are missing: ") as refused:
        read_manifest(manifest(tmp_path, written))
    assert hint in str(refused.value)
    (row,) = read_manifest(manifest(tmp_path, written), check_media=False, find_media=True)
    assert row.media == {"image": tmp_path / written}


def test_files_of_published_data_sets(tmp_path: Path) -> None:
    names = [f"{NFC}.jpg", "val2014/b.jpg", "val2014\\c.jpg", "d.jpg"]
    content = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
        "annotations": [{"image_id": number, "caption": "x"} for number in range(4)],
    }
    media = [f"{NFD}.jpg", "val2014/b.jpg", "val2014/c.jpg", "D.jpg", "._d.jpg", "__MACOSX/d.jpg"]
    fill(tmp_path, {"captions_val2014.json": content}, media)
    split = read("coco_captions", tmp_path, "val2014")
    assert [row.media["image"].relative_to(tmp_path).as_posix() for row in split.rows] == media[:3]
    assert (split.missing, split.nearest) == ({"d.jpg": 1}, ("d.jpg", "D.jpg"))


def test_the_nearest_file_of_a_published_data_set_is_told(tmp_path: Path, epalm: Any) -> None:
    content = {"images": [{"id": 1, "file_name": "d.jpg"}], "annotations": [{"image_id": 1, "caption": "x"}]}
    fill(tmp_path, {"captions_val2014.json": content}, ["D.jpg"])
    out = epalm("data", "check", "coco_captions", tmp_path, "--split", "val2014").out
    assert "'D.jpg' is there, which differs from 'd.jpg' in upper and lower case" in out
