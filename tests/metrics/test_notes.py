"""What is told beside scores, where a number does not mean what it seems to: in the text, and in the JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny

from epalm.metrics import score_split

PEOPLE, HAN = 10, "Chinese or Japanese"


@pytest.fixture
def notes(tmp_path: Path, epalm: Any) -> Callable[..., list[str]]:
    """The notes of `epalm score` on texts by id, once from its lines, and they are the same in the JSON."""

    def call(predictions: dict[str, str], references: dict[str, Any], *metrics: str) -> list[str]:
        for name, content in (("p.json", predictions), ("r.json", references)):
            (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
        chosen = [part for metric in metrics for part in ("--metric", metric)]
        files = tmp_path / "p.json", tmp_path / "r.json", "--json", tmp_path / "scores.json"
        code, out, err = epalm("score", *files, *chosen, "--tokenizer", "python")
        assert code == 0, err
        found = [line.removeprefix("note: ") for line in out.splitlines() if line.startswith("note: ")]
        assert json.loads((tmp_path / "scores.json").read_text()).get("notes", []) == found
        return found

    return call


def test_cider_of_one_row(notes: Any) -> None:
    assert notes({"a": "a red dog"}, {"a": ["a red dog"]}, "cider", "bleu_1") == [
        "cider: CIDEr of one row is 0 by definition, for it weighs words by how few rows have them; score the row "
        "among others",
        "there is one row, so that intervals are the score itself and tell nothing",
    ]
    assert len(notes({"a": "a red dog"}, {"a": ["a red dog"]}, "bleu_1")) == 1
    alike = {row: ["a dog", "a red dog"] for row in "ab"}
    assert notes(dict.fromkeys("ab", "a dog"), alike, "cider") == [
        "cider: CIDEr is 0 where all 2 rows have the same references, for it weighs words by how few rows have them"
    ]


@pytest.mark.parametrize(
    ("sentences", "cut", "script"),
    [
        (["一只红色的狗在草地上跑", "猫坐在沙发上"], ["一 只 红色 的 狗 在 草地 上 跑", "猫 坐 在 沙发 上"], HAN),
        (["赤い犬が草の上を走っている", "猫がいる"], ["赤い 犬 が 草 の 上 を 走って いる", "猫 が いる"], HAN),
        (["สุนัขสีแดงวิ่งบนหญ้า", "แมวสองตัวนั่งบนโซฟา"], ["สุนัข สี แดง วิ่ง บน หญ้า", "แมว สอง ตัว นั่ง บน โซฟา"], "Thai"),
        (["ឆ្កែក្រហមរត់លើស្មៅ", "ឆ្មាពីរក្បាលអង្គុយលើសាឡុង"], ["ឆ្កែ ក្រហម រត់ លើ ស្មៅ", "ឆ្មា ពីរ ក្បាល អង្គុយ លើ សាឡុង"], "Khmer"),
    ],
)  # fmt: skip
def test_languages_without_spaces(notes: Any, sentences: list[str], cut: list[str], script: str) -> None:
    predictions = {str(row): text for row, text in enumerate(sentences)}
    (note,) = notes(predictions, {row: [text] for row, text in predictions.items()}, "bleu_1", "rouge_l")
    assert note.startswith(f"references of 2 of 2 rows are in {script}, without spaces between words; captions are cut")
    assert note.endswith("put spaces between words, in predictions and references alike")
    predictions = {str(row): text for row, text in enumerate(cut)}
    assert notes(predictions, {row: [text] for row, text in predictions.items()}, "bleu_1") == []
    assert notes(predictions, {row: [text] for row, text in predictions.items()}, "exact_match") == []


def test_references_that_are_a_printed_list(notes: Any) -> None:
    references = {"a": ["a dog"], "b": [str(["a dog", "a cat's"])], "c": ['["a dog"]'], "d": ["[a dog]", "(a cat)"]}
    (note,) = notes(dict(zip("abcd", ("x", "y", "['z']"[:2], "w"), strict=True)), references, "rouge_l")
    assert note == (
        "2 of 4 rows have a printed list as one reference, first row b: '[\\'a dog\\', \"a cat\\'s\"]'; it is compared "
        "as it stands: write a list of texts instead"
    )
    (note,) = notes({"a": "['a dog']", "b": "x"}, {"a": ["a dog"], "b": ["y"]}, "exact_match")
    assert note.startswith("1 of 2 rows have a printed list as their prediction, first row a: \"['a dog']\"")


def test_answers_and_people(notes: Any) -> None:
    few = {"a": ["yes"] * 5, "b": ["no"] * PEOPLE}
    (note,) = notes({"a": "yes", "b": "no"}, few, "vqa_accuracy")
    assert note.startswith("vqa_accuracy: 1 of 2 rows have fewer than 10 people's answers; three that agree are a full")
    spelt = {"a": ["yes"] * PEOPLE, "b": ["no"] * 9 + ["yes"]}
    (note,) = notes({"a": "Yes", "b": "No"}, spelt, "vqa_accuracy")
    assert note.startswith(
        "vqa_accuracy: 1 of 2 rows are wrong by case, articles or punctuation alone, first row a: 'Yes'"
    )
    mixed = {"a": ["yes"] * PEOPLE, "b": ["no"] * PEOPLE, "c": ["no"]}
    (note,) = notes(dict.fromkeys("abc", "yes"), mixed, "exact_match")
    assert note.endswith("vqa_accuracy takes 4 or more in every row, and 1 of 3 rows have fewer, first row c")
    assert notes({"a": "yes", "b": "maybe"}, {"a": {"yes": 1.0}, "b": {"no": 0.3}}, "vqa_accuracy") == []


def test_predictions_and_references_that_are_all_alike(notes: Any) -> None:
    rows = [str(row) for row in range(PEOPLE)]
    different = {row: [f"answer {row}"] for row in rows}
    assert notes(dict.fromkeys(rows, "yes"), different, "exact_match") == ["all 10 predictions are the same: 'yes'"]
    assert notes(dict.fromkeys(rows, ""), different, "exact_match") == [
        "10 of 10 rows have an empty prediction, first row 0"
    ]
    assert notes({row: row for row in rows}, {row: ["no"] for row in rows}, "exact_match") == [
        "all 10 rows have the same references, so that one answer fits them all"
    ]


def test_signs_that_look_alike(notes: Any) -> None:
    (note,) = notes({"a": "dog\u200b", "b": "a\ncat"}, {"a": ["dog"], "b": ["cat"]}, "exact_match")
    assert note.endswith("compared like any others, first row a: 'dog\\u200b'")
    (note,) = notes({"a": "caf\u00e9", "b": "x"}, {"a": ["cafe\u0301"], "b": ["y"]}, "bleu_1")
    assert note.startswith("references of 1 of 2 rows have accents that are signs of their own (Unicode NFD), and the")
    assert notes({"a": "cafe\u0301", "b": "x"}, {"a": ["cafe\u0301"], "b": ["y"]}, "bleu_1") == []


def test_metrics_for_english(monkeypatch: pytest.MonkeyPatch) -> None:
    from epalm.metrics.notes import notes_on

    russian = [["собака бежит"], ["кошка спит"]]
    (note,) = notes_on(["meteor", "cider", "spice"], ["собака", "кошка"], russian)
    assert note == "meteor, spice: made for English; 2 of 2 rows have references in another script"
    assert notes_on(["cider"], ["собака", "кошка"], russian) == ()
    assert notes_on(["meteor"], ["x", "y"], [["un café près"], ["größe"]]) == ()


def test_ordinary_rows_have_no_notes() -> None:
    captions = [['A dog’s (red) ball – 5°, "naïve" café!'], ["two cats; one 猫 [sic]", "{a} cat"], ["it’s 日本 here"]]
    assert score_split(["cider", "bleu_4"], ["a dog", "a cat", "it is"], captions, tokenizer="python").notes == ()
    people = [["red"] * 9 + ["Red"], ["2"] * PEOPLE]
    assert score_split(["vqa_accuracy", "exact_match"], ["red", "3"], people).notes == ()
    many = score_split(["exact_match"], ["", *map(str, range(150))], [["a"], *([str(i)] for i in range(150))])
    assert many.notes == ()  # one empty prediction of many changes nothing


def test_notes_of_training_and_evaluation(place: Path, epalm: Any) -> None:
    rows = tiny.captions()
    listed = str(["a red square", "red"])
    tiny.write_lines(place / "train.jsonl", [*rows, {"image": ".\\pictures\\red.png", "caption": listed}])
    tiny.write_lines(place / "one.jsonl", [{"image": "pictures/red.png", "caption": listed, "id": "r"}])
    data = ("--data.train", "train.jsonl", "--data.validation", "one.jsonl", "--training.steps", "1")
    code, out, err = epalm("train", "recipe.yaml", *data, "--output", "out", "--json", "train.json", "--no-store")
    assert code == 0, err
    row = len(rows) + 1
    learned = f"train.jsonl: 1 of {row} rows have a printed list as one caption or answer, first row {row}: "
    respelt = (
        f"train.jsonl: 1 of {len({each['image'] for each in rows}) + 1} media files are there under another spelling"
    )
    cider = "note on captioning: cider: CIDEr of one row is 0 by definition"
    printed = 'note on captioning: 1 of 1 rows have a printed list as one reference, first row r: "'
    for found in (learned, respelt, cider, printed):
        assert found in out
    assert (
        len([note for note in json.loads((place / "train.json").read_text())["data"] if "train.jsonl: 1 of" in note])
        == 2
    )
    code, out, err = epalm("evaluate", "out", "--data", "one.jsonl", "--json", "scores.json")
    assert code == 0, err
    assert cider in out
    assert printed in out
    (details,) = json.loads((place / "scores.json").read_text())["details"].values()
    assert [line.partition(": ")[2] for line in out.splitlines() if line.startswith("note on ")] == details["notes"]
