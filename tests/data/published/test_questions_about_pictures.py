"""VQAv2, OK-VQA, GQA and VizWiz, in their official layouts and in the rows that earlier work made of them."""

from data.published.place import fill, read

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
    found = read("vqav2", tmp_path, "karpathy_test")
    (row,) = found.rows
    assert (row.targets, row.weights) == (("2000", "many", "lots, really"), (1.0, 0.6, 0.3))
    assert row.groups["answer_type"] == "number"
    assert found.left_out == {"has no answer with a score": 1}
    # With the official annotations beside them, what ten people answered takes the scores' place.
    fill(tmp_path, {"v2_mscoco_val2014_annotations.json": _annotations()})
    (row,) = read("vqav2", tmp_path, "karpathy_test").rows
    assert (len(row.targets), row.weights) == (10, None)


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
