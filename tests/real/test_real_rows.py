"""Which rows each part of the plan learns from and is scored on."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.real.plan import PARTS, Part, select
from benchmarks.real.rows import drawn, rows_of, write_rows, write_shuffled
from epalm.data.manifest import read_manifest
from epalm.errors import ConfigError


def part(name):
    (found,) = (part for part in PARTS if part.name == name)
    return found


def test_parts_are_named_by_how_they_begin():
    assert len({part.name for part in PARTS}) == len(PARTS)
    assert select([]) == list(PARTS)
    assert [part.name for part in select(["digits-30", "esc10"])] == [
        "digits-30-seed0", "digits-30-seed1", "digits-30-seed2",
        "esc10-seed0", "esc10-seed1", "esc10-seed2", "esc10-toy-ast",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="no part named 'digit'; name some of photographs, digits, esc10, easy-vqa"):
        select(["digit"])


def test_few_rows_have_every_answer_equally_often_and_depend_on_the_seed(data):
    rows, _ = rows_of(part("digits-300-seed0"), data)
    assert len(rows) == 64
    few = drawn(rows, 8, seed=0)
    assert Counter(row.targets[0] for row in few) == {"zero": 2, "one": 2, "two": 2, "three": 2}
    assert len({row.media["audio"] for row in few}) == 8
    assert few == drawn(rows, 8, seed=0) != drawn(rows, 8, seed=1)
    again, _ = rows_of(part("digits-30-seed1"), data)
    assert len(again) == 30


def test_a_speaker_who_is_left_out_is_scored_alone(data):
    train, held_out = rows_of(part("digits-without-lucas"), data)
    assert {row.groups["speaker"] for row in train} == {"george", "jackson", "theo"}
    assert {row.groups["speaker"] for row in held_out} == {"lucas"}
    assert (len(train), len(held_out)) == (48, 20)  # all that he has said
    assert not {row.media["audio"] for row in train} & {row.media["audio"] for row in held_out}


def test_joined_manifests_are_written_and_read_back(data, tmp_path):
    train, held_out = rows_of(part("photographs"), data)
    write_rows(tmp_path, train, held_out)
    read = read_manifest(tmp_path / "train.jsonl")
    assert [(row.id, row.targets) for row in read] == [(row.id, row.targets) for row in train]
    assert [row.media["image"].resolve() for row in read] == [row.media["image"].resolve() for row in train]
    assert [row.id for row in read] == ["1", "2", "3", "4", "5", "6"]


def test_shuffled_rows_keep_what_is_asked_and_have_the_file_of_another_answer(data, tmp_path):
    _, held_out = rows_of(part("digits-300-seed0"), data)
    write_shuffled(tmp_path, held_out)
    shuffled = read_manifest(tmp_path / "shuffled.jsonl")
    assert [(row.id, row.targets, row.groups) for row in shuffled] == [
        (row.id, row.targets, row.groups) for row in held_out
    ]
    said = {row.media["audio"].resolve(): row.targets for row in held_out}
    assert all(said[row.media["audio"].resolve()] != row.targets for row in shuffled)
    assert {row.media["audio"].resolve() for row in shuffled} == set(said)


def test_quick_takes_a_few_rows_from_everywhere(data):
    train, held_out = rows_of(part("digits-300-seed0"), data, quick=True)
    assert (len(train), len(held_out)) == (20, 8)
    assert {row.targets[0] for row in train} == {row.targets[0] for row in held_out} == {"zero", "one", "two", "three"}
    assert rows_of(part("photographs"), data, quick=True) == rows_of(part("photographs"), data)  # which has but a few


def test_a_data_set_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"DATA: there is no .*esc10-mini/train.jsonl; docs/real.md says"):
        rows_of(Part("esc10", "audio", "whisper-tiny-en"), tmp_path)
