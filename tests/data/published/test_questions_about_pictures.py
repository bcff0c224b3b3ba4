"""VQAv2, OK-VQA, GQA and VizWiz, in their official layouts and in the rows that earlier work made of them."""

import pytest
from data.published.published_layouts import fill, read

from epalm.metrics import score
from epalm.tasks.question_answering import QuestionAnswering

TEN = ["2,000", *["2000"] * 3, *["many "] * 5, "a lot"]


def _questions(*pairs):
    return {"questions": [{"question_id": q, "image_id": image, "question": "How  many?"} for q, image in pairs]}


def _annotations(**changes):
    answers = [{"answer": text, "answer_id": i, "answer_confidence": "yes"} for i, text in enumerate(TEN, start=1)]
    entry = {"question_id": 42000, "image_id": 42, "question_type": "how many", "answer_type": "number"}
    return {"annotations": [entry | {"multiple_choice_answer": "many", "answers": answers} | changes]}


def test_vqav2_official(tmp_path):
    fill(
        tmp_path,
        {
            "v2_OpenEnded_mscoco_val2014_questions.json": _questions((42000, 42)),
            "v2_mscoco_val2014_annotations.json": _annotations(),
            "v2_OpenEnded_mscoco_test-dev2015_questions.json": _questions((7001, 7)),
        },
        ["val2014/COCO_val2014_000000000042.jpg", "test2015/COCO_test2015_000000000007.jpg"],
    )
    (row,) = read("vqav2", tmp_path, "val").rows
    assert (row.question, row.id) == ("How many?", "42000")
    assert row.targets == ("2,000", "2000", "2000", "2000", *["many"] * 5, "a lot")  # all ten, commas and all
    assert row.groups == {"answer_type": "number", "question_type": "how many"}
    (row,) = read("vqav2", tmp_path, "test-dev").rows
    assert (row.id, row.targets) == ("7001", ())
    assert row.media == {"image": tmp_path / "test2015/COCO_test2015_000000000007.jpg"}


def _row(question, label):
    return {
        "img_id": "COCO_val2014_000000000042",
        "sent": "How many?",
        "question_id": question,
        "question_type": "how many",
        "answer_type": "number",
        "label": label,
    }


def test_karpathys_vqa_rows(tmp_path):
    rows = [_row(42000, {"2000": 1, "many": 0.6, "lots, really": 0.3}), _row(42001, {})]
    fill(tmp_path, {"vqa/karpathy_test.json": rows}, ["val2014/COCO_val2014_000000000042.jpg"])
    row, _ = read("vqav2", tmp_path, "karpathy_test").rows
    assert (row.targets, row.weights) == (("2000", "many", "lots, really"), (1.0, 0.6, 0.3))
    assert row.groups["answer_type"] == "number"
    # With the official annotations beside them, what ten people answered takes the scores' place.
    both = _annotations()["annotations"] + _annotations(question_id=42001)["annotations"]
    fill(tmp_path, {"v2_mscoco_val2014_annotations.json": {"annotations": both}})
    rows = read("vqav2", tmp_path, "karpathy_test").rows
    assert [(len(row.targets), row.weights) for row in rows] == [(10, None), (10, None)]


@pytest.mark.parametrize(
    ("file", "split", "is_scored"),
    [
        ("karpathy_train.json", "karpathy_train", False),
        ("train_standard.json", "train", False),
        ("nominival.json", "nominival", False),
        ("karpathy_val.json", "karpathy_val", True),
        ("karpathy_test.json", "karpathy_test", True),
        ("val_standard.json", "val", True),
        ("minival.json", "minival", True),
    ],
)
def test_rows_without_a_scored_answer_are_wrong_where_they_are_scored(tmp_path, file, split, is_scored):
    fill(tmp_path, {file: [_row(1, {"2": 1}), _row(2, {})]}, ["COCO_val2014_000000000042.jpg"])
    found = read("vqav2", tmp_path, split)
    assert [row.counts_as_wrong for row in found.rows] == ([False, True] if is_scored else [False])
    assert found.left_out == ({} if is_scored else {"has no answer with a score": 1})
    task = QuestionAnswering.__new__(QuestionAnswering)
    names = task.metrics_for(found.rows)
    references = [task.references(row) for row in found.rows]
    scores = score(names, ["2", *found.rows[-1].targets][: len(found.rows)], references)
    assert scores == {"vqa_accuracy": 50.0 if is_scored else 100.0}


def test_gqa_rows_without_an_answer_are_wrong_where_they_are_scored(tmp_path):
    row = {"img_id": "n1", "sent": "Is it red?", "question_id": "201", "label": {"no": 1.0}}
    rows = [row, row | {"question_id": "202", "label": {}}]
    fill(tmp_path, {"train.json": rows, "testdev.json": rows}, ["n1.jpg"])
    assert read("gqa", tmp_path, "train").left_out == {"has no answer with a score": 1}
    found = read("gqa", tmp_path, "testdev").rows
    task = QuestionAnswering.__new__(QuestionAnswering)
    assert task.metrics_for(found) == ("exact_match",)
    said = ["no", found[1].targets[0]]
    assert score(["exact_match"], said, [task.references(row) for row in found]) == {"exact_match": 50.0}


def test_okvqa(tmp_path):
    fill(
        tmp_path,
        {
            "OpenEnded_mscoco_val2014_questions.json": _questions((42000, 42)),
            "mscoco_val2014_annotations.json": _annotations(question_type="one", answer_type="other"),
        },
        ["val2014/COCO_val2014_000000000042.jpg"],
    )
    (row,) = read("okvqa", tmp_path, "val").rows
    assert len(row.targets) == 10
    assert row.groups == {"answer_type": "other", "question_type": "one"}


def test_gqa_official_and_rows(tmp_path):
    types = {"structural": "verify", "semantic": "attr", "detailed": "verifyAttr"}
    entry = {"imageId": "n356822", "question": "Is it red?"}
    fill(
        tmp_path / "official",
        {
            "questions/val_balanced_questions.json": {"201": entry | {"answer": "no", "types": types}},
            "questions/test_balanced_questions.json": {"202": entry},
        },
        ["images/n356822.jpg"],
    )
    (row,) = read("gqa", tmp_path / "official", "val").rows
    assert (row.id, row.question, row.targets) == ("201", "Is it red?", ("no",))
    assert row.groups == {"structural": "verify", "semantic": "attr"}
    assert read("gqa", tmp_path / "official", "test").rows[0].targets == ()
    row = {"img_id": "n356822", "sent": "Is it red?", "question_id": "201", "label": {"no": 1.0}}
    fill(tmp_path / "rows", {"valid.json": [row]}, ["images/n356822.jpg"])
    (row,) = read("gqa", tmp_path / "rows", "val").rows
    assert (row.targets, row.weights) == (("no",), None)


def test_vizwiz(tmp_path):
    answers = [{"answer": text, "answer_confidence": "maybe"} for text in ["unanswerable"] * 7 + ["coke"] * 3]
    entry = {"image": "VizWiz_val_00000000.jpg", "question": "Ok. There is another picture I hope it is a better one."}
    fill(
        tmp_path,
        {
            "Annotations/val.json": [entry | {"answers": answers, "answer_type": "unanswerable", "answerable": 0}],
            "Annotations/test.json": [entry],
        },
        ["val/VizWiz_val_00000000.jpg"],
    )
    (row,) = read("vizwiz_vqa", tmp_path, "val").rows
    assert (row.id, row.targets.count("unanswerable")) == ("VizWiz_val_00000000.jpg", 7)
    assert read("vizwiz_vqa", tmp_path, "test").rows[0].targets == ()
