import json
from pathlib import Path

import pytest

from epalm.data import MODALITIES, Row, read_manifest, write_manifest
from epalm.errors import DataError

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
RIGHT = {"image": "a.png", "question": "what is it?", "answer": "dog"}


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.png", "clip.mp4", "sound.wav"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def _write(folder, *lines):
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines), "utf-8")
    return path


def _message(path, **options):
    """The one line that reading `path` fails with."""
    with pytest.raises(DataError) as caught:
        read_manifest(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


def test_every_form_of_a_row(folder):
    path = _write(
        folder,
        {"image": "a.png", "caption": " a dog "},
        "",
        {"video": "clip.mp4", "audio": "sound.wav", "captions": ["a cat", "the cat"], "id": 77},
        RIGHT,
        {"image": "b.png", "question": "hm?", "answers": ["red", "red", "blue"]},
        {"image": "b.png", "question": "hm?", "answers": {"red": 1, "blue": 0.3}, "id": "x"},
        RIGHT | {"groups": {"answer_type": "other"}},
    )
    a, b = folder / "a.png", folder / "b.png"
    assert read_manifest(path) == [
        Row({"image": a}, None, ("a dog",), None, "1", 1),
        Row({"video": folder / "clip.mp4", "audio": folder / "sound.wav"}, None, ("a cat", "the cat"), None, "77", 3),
        Row({"image": a}, "what is it?", ("dog",), None, "4", 4),
        Row({"image": b}, "hm?", ("red", "red", "blue"), None, "5", 5),
        Row({"image": b}, "hm?", ("red", "blue"), (1.0, 0.3), "x", 6),
        Row({"image": a}, "what is it?", ("dog",), None, "7", 7, {"answer_type": "other"}),
    ]


def test_the_task_follows_from_the_question(folder):
    captioning, asked = read_manifest(_write(folder, {"image": "a.png", "caption": "a"}, RIGHT))
    assert (captioning.task, asked.task) == ("captioning", "question_answering")


def test_rows_without_answers_only_on_request(folder):
    path = _write(folder, {"image": "a.png", "question": "what?"}, {"image": "b.png"})
    assert [row.targets for row in read_manifest(path, require_answers=False)] == [(), ()]
    assert _message(path) == (
        ", row 1: has no answer; add a field 'answer' or 'answers' (and 1 more problem, in row 2)"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "{'image': 'a.png'}",
            "is not valid JSON (Expecting property name enclosed in double quotes, column 2); write",
        ),
        ("[" * 100_000, "is not valid JSON (nested too deeply, column 1); write one object a line"),
        (
            '{"image": "a.png", "id": ' + "1" * 5000 + "}",
            "is not valid JSON (a number of thousands of digits, column 1)",
        ),
        (RIGHT | {"groups": "x"}, "field 'groups' must be an object of texts, not text"),
        (RIGHT | {"groups": {"a": 1}}, "field 'groups' must hold text, not the number 1"),
        ('["a.png"]', "holds a list, not an object; write one object a line"),
        ("NaN", "holds a number that is not finite, not an object"),
        ('{"image": "a.png", "caption": "a", "caption": "b"}', "gives 'caption' twice; keep one, or use a list"),
        ({"caption": "a"}, "names nothing to perceive; add a field 'image', 'video' or 'audio'"),
        ({"image": "a.png", "qestion": "x", "answer": "y"}, "unknown field 'qestion'; did you mean 'question'?"),
        ({"image": "a.png", "Caption": "x"}, "unknown field 'Caption'; did you mean 'caption'?"),
        ({"image": "a.png", "zzz\n": "x"}, r"unknown field 'zzz\n'; the fields are image, video, audio, question"),
        ({"image": 3, "caption": "x"}, "field 'image' must hold text, not the number 3"),
        ({"image": "", "caption": "x"}, "field 'image' is empty"),
        ({**RIGHT, "question": "  "}, "field 'question' is empty; fill it in or leave the row out"),
        ({**RIGHT, "answer": ""}, "field 'answer' is empty"),
        ({**RIGHT, "answer": 2}, "field 'answer' must hold text, not the number 2; write \"2\""),
        ({**RIGHT, "answer": None}, "field 'answer' must hold text, not null"),
        ({**RIGHT, "answer": ["a"]}, "field 'answer' must be a string, not a list; use 'answers' for several"),
        ({**RIGHT, "answers": ["a"]}, "has both 'answer' and 'answers'; keep one of them"),
        ({"image": "a.png", "answer": "x"}, "field 'answer' does not go with no question; add a 'question'"),
        (
            {"image": "a.png", "question": "x", "caption": "y"},
            "field 'caption' does not go with a question; write 'answer'",
        ),
        ({"image": "a.png", "captions": "x"}, "field 'captions' must be a list, not text; use 'caption' for one"),
        ({"image": "a.png", "captions": []}, "field 'captions' is an empty list; give at least one caption"),
        ({"image": "a.png", "captions": ["x", ""]}, "field 'captions' is empty"),
        ({"image": "a.png", "captions": {"x": 1}}, "field 'captions' must be a list, not an object"),
        (
            {"image": "a.png", "question": "x", "answers": {"y": -1}},
            "field 'answers' scores 'y' with -1; give a number from 0 to 1",
        ),
        (
            {"image": "a.png", "question": "x", "answers": {"y": 7}},
            "field 'answers' scores 'y' with 7; give a number from 0 to 1",
        ),
        (
            '{"image": "a.png", "question": "x", "answers": {"y": NaN}}',
            "field 'answers' scores 'y' with nan; give a number from 0 to 1",
        ),
        ({"image": "a.png", "caption": "\ud800"}, "field 'caption' has half a character"),
        ({**RIGHT, "id": True}, "field 'id' must be a string or a whole number, not true or false"),
        ({**RIGHT, "id": 1}, "field 'id' is '1', as in row 1; give every row its own"),
    ],
)
def test_what_is_wrong_with_a_row(folder, line, message):
    assert _message(_write(folder, RIGHT, line)).startswith(f", row 2: {message}")


def test_all_problems_are_counted_and_the_first_is_told(folder):
    bad = {"image": "a.png"}
    path = _write(folder, RIGHT, bad, RIGHT, bad, bad, bad, bad)
    assert _message(path).endswith("add a field 'caption' or 'captions' (and 4 more problems, in rows 4, 5, 6, ...)")
    assert "(and at least 99 more problems, in rows 2, 3, 4, ...)" in _message(_write(folder, *[bad] * 5000))


def test_missing_media_are_counted_and_the_first_named(folder):
    names = ["a.png", "no1.png", "no1.png", "no2.png", "b.png", "no3.png", "no4.png", "."]
    path = _write(folder, *({"image": name, "caption": "x"} for name in names))
    assert _message(path) == (
        ", row 2: 5 of 7 media files are missing: 'no1.png' (row 2), 'no2.png' (row 4), 'no3.png' (row 6) and 2 more; "
        f"paths are relative to {folder}; put the files there or correct the paths"
    )
    assert len(read_manifest(path, check_media=False)) == len(names)


def test_a_path_no_system_takes_is_missing(folder):
    path = _write(folder, {"image": "a\0.png", "caption": "x"}, {"image": "x" * 5000, "caption": "x"})
    assert "2 of 2 media files are missing" in _message(path)


def test_missing_media_are_told_along_with_wrong_rows(folder):
    path = _write(folder, {"image": "no.png", "caption": "x"}, {"image": "a.png"})
    assert _message(path).endswith("(and 1 more problem, in row 1)")


def test_encodings(folder):
    text = json.dumps({"image": "a.png", "caption": "café"}, ensure_ascii=False) + "\r\n"
    path = folder / "rows.jsonl"
    path.write_bytes(text.encode("utf-8-sig"))
    assert read_manifest(path)[0].targets == ("café",)
    path.write_bytes(text.encode("utf-16"))
    assert _message(path) == ": is written in UTF-16; save it as UTF-8"
    path.write_bytes(text.encode() + text.encode("latin-1"))
    assert _message(path) == ", row 2: is not UTF-8 (byte 35 of the line); save the file as UTF-8"


def test_what_is_no_manifest(folder):
    _write(folder)
    assert "there are no rows in it" in _message(folder / "rows.jsonl")
    assert _message(folder) == ": is a directory; name a manifest in it, such as rows.jsonl"
    assert _message(folder / "none.jsonl") == ": no such file; give a JSON Lines manifest"


def test_written_rows_read_back(folder):
    rows = read_manifest(
        _write(
            folder,
            {"image": "a.png", "caption": "señor \u2028 x"},
            {"video": "clip.mp4", "captions": ["a", "b"], "id": "clip"},
            {**RIGHT, "audio": "sound.wav"},
            {"image": "b.png", "question": "q", "answers": ["x", "x"]},
            {"image": "b.png", "question": "q", "answers": {"x": 0.6, "y": 1}},
        )
    )
    deeper = folder / "made" / "here" / "again.jsonl"
    write_manifest(rows, deeper)
    again = read_manifest(deeper)
    for old, new in zip(rows, again, strict=True):
        assert {name: path.resolve() for name, path in new.media.items()} == dict(old.media)
        assert (new.question, new.targets, new.weights, new.id) == (old.question, old.targets, old.weights, old.id)
    assert str(folder) not in deeper.read_text("utf-8")


def test_a_failed_write_leaves_the_old_file_alone(folder):
    path = _write(folder, RIGHT)
    before = path.read_bytes()

    def rows():
        yield Row({"image": folder / "a.png"}, None, ("x",))
        raise RuntimeError("stopped half-way")

    with pytest.raises(RuntimeError):
        write_manifest(rows(), path)
    assert path.read_bytes() == before
    assert [child.name for child in folder.iterdir() if child.name.endswith(".tmp")] == []


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("easy-vqa/train.jsonl", 38575),
        ("flickr8k-mini/val.jsonl", 40),
        ("daquar-mini/train.jsonl", 541),
        ("esc10-mini/val.jsonl", 80),
        ("audiocaps-mini/video.jsonl", 4),
    ],
)
def test_manifests_made_by_others(name, rows):
    if not (SHARED / name).is_file():
        pytest.skip("the shared data are not on this machine")
    found = read_manifest(SHARED / name)
    assert len(found) == rows
    assert all(row.targets and row.media.keys() <= set(MODALITIES) for row in found)
