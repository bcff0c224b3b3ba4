"""Scores over whole splits, and the predictions they come from."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import tiny

from epalm.data.rows import Row
from epalm.errors import ConfigError, DataError
from epalm.evaluation import Answerer, Evaluation, Prediction, score_rows
from epalm.metrics import CAPTION_METRICS, JAVA_TOKENIZER, TOKENIZER, choose_tokenizer, get_metric
from epalm.recipe import build_recipe
from epalm.training.run import load_model

ENDS = ("value", "low", "high")


@pytest.fixture
def answerer(backbones: Path, place: Path) -> Answerer:
    recipe = build_recipe(tiny.recipe_values(backbones))
    return Answerer(load_model(recipe), recipe.text, recipe.generation)


def picture(name: str, question: str | None, *targets: str, id: str = "") -> Row:
    return Row({"image": Path("pictures") / f"{name}.png"}, question, targets, id=id)


def test_tasks_are_scored_apart_and_predictions_stay_in_order(answerer: Answerer, tmp_path: Path) -> None:
    asked = [
        dataclasses.replace(picture("red", "a longer question?"), groups={"colour": "red"}),
        picture("red", None),
        picture("blue", "short?"),
        picture("blue", None),
    ]
    texts = answerer.answer(asked)
    rows = [
        dataclasses.replace(row, targets=(text or "nothing",) if i != 2 else ("surely not",), id=str(i))
        for i, (row, text) in enumerate(zip(asked, texts, strict=True))
    ]
    told: list[tuple[str, int, int]] = []
    evaluation = score_rows(answerer, rows, lambda *news: told.append(news))
    assert [prediction.text for prediction in evaluation.predictions] == texts
    assert evaluation.scores["question_answering"] == {"exact_match": 50.0}
    assert set(evaluation.scores["captioning"]) == {"cider", "rouge_l", "bleu_1", "bleu_2", "bleu_3", "bleu_4"}
    assert [p.row.id for p in evaluation.rows_of("captioning")] == ["1", "3"]
    assert told[0][0] == "perceiving image"
    assert ("answering", 4, 4) in told
    assert told[-1] == ("measuring perception", 3, 3)
    assert evaluation.as_dict()["rows"] == {"question_answering": 2, "captioning": 2}
    answers, groups, captions, missing, note, *_ = evaluation.as_text().splitlines()
    assert answers == "question_answering (2 rows): exact_match 50.00 [0.00, 100.00]"
    assert groups == "  by colour: red 100.00"
    assert missing.startswith("not scored: meteor, spice, spider: there is no Java runtime; install one")
    assert set(evaluation.as_dict()["not_scored"]) == {"meteor", "spice", "spider"}
    assert captions.endswith(f"; tokeniser: {choose_tokenizer().name}")
    assert note == "in brackets: bootstrap 95 % intervals"
    details = evaluation.as_dict()["details"]["question_answering"]
    assert details["scores"]["exact_match"] == {"value": 50.0, "low": 0.0, "high": 100.0}
    assert details["groups"]["colour"]["red"] == {"rows": 1, "scores": {"exact_match": dict.fromkeys(ENDS, 100.0)}}
    path = tmp_path / "predictions.jsonl"
    path.write_text("old")
    evaluation.write_predictions(path)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["id"] for line in lines] == ["0", "1", "2", "3"]
    assert [line["prediction"] for line in lines] == texts
    assert "question" not in lines[1]
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


def test_many_groups_are_counted(answerer: Answerer) -> None:
    rows = [dataclasses.replace(picture("red", f"{n}?", "a"), groups={"kind": f"{n}"}) for n in range(9)]
    assert score_rows(answerer, rows).as_text().splitlines()[1] == "  by kind: 9, told in JSON"


@pytest.mark.slow
@pytest.mark.java
def test_java_scores_captions_where_it_is_and_not_where_it_shall_not(
    answerer: Answerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    if get_metric("meteor").why_not() is not None:
        pytest.skip("java or pycocoevalcap is not installed")
    rows = [picture(name, None, "a red picture", "a dog") for name in ("red", "blue")]
    evaluation = score_rows(answerer, rows)
    names = list(evaluation.scores["captioning"])
    assert names[0] == "cider"
    assert set(CAPTION_METRICS) == {*names, *evaluation.left_out}
    assert "meteor" in names
    assert evaluation.splits["captioning"].tokenizer == JAVA_TOKENIZER
    monkeypatch.setattr("subprocess.run", None)
    quick = score_rows(answerer, rows, java=False)
    assert set(quick.left_out) == {"meteor", "spice", "spider"}
    assert "not scored: meteor, spice, spider: Java was not to be started" in quick.as_text()
    assert quick.splits["captioning"].tokenizer == TOKENIZER


def test_any_text_can_be_written(tmp_path: Path) -> None:
    text = 'a "quoted"\u2028line, 日本 and 🦓'
    odd = Path("caf\udce9.png")  # a file name that is not UTF-8
    evaluation = Evaluation({}, (Prediction(Row({"image": odd}, id="1"), text),), 0.0)
    evaluation.write_predictions(tmp_path / "p.jsonl")
    line = json.loads((tmp_path / "p.jsonl").read_text(encoding="utf-8").split("\n")[0])
    assert line["prediction"] == text
    assert line["image"] == str(odd)


def test_predictions_as_evaluation_servers_take_them(tmp_path: Path) -> None:
    rows = [Row({"image": Path("a.png")}, "what?", id="42"), Row({"image": Path("b.png")}, "what?", id="n7")]
    evaluation = Evaluation({}, tuple(Prediction(row, "café") for row in rows), 0.0)
    evaluation.write_predictions(tmp_path / "p.json", "vqa")
    told = json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))
    assert told == [{"question_id": 42, "answer": "café"}, {"question_id": "n7", "answer": "café"}]
    with pytest.raises(ConfigError, match="unknown format 'xml' of results; choose from coco, vqa, gqa"):
        evaluation.write_predictions(tmp_path / "p.xml", "xml")


def test_predictions_that_cannot_be_written(tmp_path: Path) -> None:
    evaluation = Evaluation({}, (), 0.0)
    for path in (tmp_path / "none" / "p.jsonl", Path("/proc/p.jsonl"), tmp_path):
        with pytest.raises(ConfigError, match="cannot be written"):
            evaluation.write_predictions(path)


def test_rows_with_and_without_answers(answerer: Answerer) -> None:
    with pytest.raises(DataError, match="no rows to score"):
        score_rows(answerer, [])
    mixed = [picture("red", None, "a"), Row({"image": Path("pictures/red.png")}, number=9)]
    with pytest.raises(DataError, match=r"test\.jsonl, row 9: has no answer or caption, but other rows have"):
        score_rows(answerer, mixed, where="test.jsonl")
    evaluation = score_rows(answerer, [picture("red", None, "a"), picture("red", "what?")])
    assert set(evaluation.scores) == {"captioning"}
    assert evaluation.as_text().splitlines()[1] == "question_answering (1 rows): not scored, its rows have no answers"
    assert evaluation.as_dict()["rows"] == {"captioning": 1, "question_answering": 1}
