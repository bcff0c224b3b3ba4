"""Files of predictions and references as evaluation servers and data sets lay them out."""

import json

import pytest

from epalm.data.manifest import read_manifest
from epalm.errors import ConfigError, DataError
from epalm.metrics.result_files import format_results, read_predictions, read_references
from epalm.metrics.scoring_files import score_files

COCO = {
    "images": [{"id": 1, "domain": "in-domain"}, {"id": 2, "domain": "out-domain"}],
    "annotations": [
        {"image_id": 1, "id": 10, "caption": "A red dog."},
        {"image_id": 2, "id": 11, "caption": "Two cats sit on a sofa."},
        {"image_id": 1, "id": 12, "caption": "A dog that is red."},
    ],
}
VQA = {
    "annotations": [
        {
            "question_id": 5,
            "image_id": 1,
            "question_type": "what is",
            "answer_type": "other",
            "answers": [{"answer": "dog", "answer_id": i, "answer_confidence": "yes"} for i in range(10)],
        },
        {
            "question_id": 6,
            "image_id": 1,
            "question_type": "is it",
            "answer_type": "yes/no",
            "answers": [{"answer": "yes" if i < 2 else "no", "answer_id": i} for i in range(10)],
        },
    ]
}


def _write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "ids", "expected"),
    [
        ("coco", ["42", "a"], [{"image_id": 42, "caption": "x"}, {"image_id": "a", "caption": "x"}]),
        ("vqa", ["7", "0"], [{"question_id": 7, "answer": "x"}, {"question_id": 0, "answer": "x"}]),
        ("vqa", ["007", "00"], [{"question_id": "007", "answer": "x"}, {"question_id": "00", "answer": "x"}]),
        ("gqa", ["201307251"], [{"questionId": "201307251", "prediction": "x"}]),
        ("vizwiz", ["VizWiz_test_00000000.jpg"], [{"image": "VizWiz_test_00000000.jpg", "answer": "x"}]),
        ("vatex", ["Ptf_2VRj-V0_000122_000132"], {"Ptf_2VRj-V0_000122_000132": "x"}),
    ],
)
def test_results_are_as_the_server_takes_them_and_read_back(tmp_path, name, ids, expected):
    text = format_results(name, [(row, "x") for row in ids])
    assert json.loads(text) == expected
    assert read_predictions(_write(tmp_path / "p.json", text)) == dict.fromkeys(ids, "x")


def test_predictions_of_this_package_are_read(tmp_path):
    lines = '{"id": "a", "prediction": "x", "references": ["y"]}\n{"id": 2, "prediction": "z"}\n'
    assert read_predictions(_write(tmp_path / "p.jsonl", lines)) == {"a": "x", "2": "z"}
    assert read_predictions(_write(tmp_path / "p.jsonl", lines.split("\n")[0])) == {"a": "x"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "no predictions"),
        ([{"image": "a"}], r"entry 1: is no prediction; the fields are 'image_id' with 'caption'"),
        ([{"question_id": 1, "answer": "a"}, {"question_id": "1", "answer": "b"}], "two predictions for 1"),
        ([{"question_id": 1, "answer": 3}], "the prediction for 1 is int, not text"),
        ("{oh", "neither JSON nor JSON Lines"),
        ("[" * 9999, "is JSON that cannot be read here"),
        ("3", "neither a list nor an object"),
    ],
)
def test_files_that_are_no_predictions(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_predictions(_write(tmp_path / "p.json", content))


def test_references_in_every_layout(tmp_path):
    coco = read_references(_write(tmp_path / "coco.json", COCO))
    assert coco.kind == "captions"
    assert coco.texts == {"1": ["A red dog.", "A dog that is red."], "2": ["Two cats sit on a sofa."]}
    assert coco.groups["2"] == {"domain": "out-domain"}
    vqa = read_references(_write(tmp_path / "vqa.json", VQA))
    assert (vqa.kind, vqa.texts["6"]) == ("answers", ["yes"] * 2 + ["no"] * 8)
    assert vqa.groups["5"] == {"answer_type": "other", "question_type": "what is"}
    gqa = {
        "20": {
            "imageId": "n1",
            "question": "Is it?",
            "answer": "no",
            "types": {"structural": "verify", "semantic": None, "detailed": "verifyAttr"},
        }
    }
    found = read_references(_write(tmp_path / "gqa.json", gqa))
    assert (found.kind, found.texts, found.groups) == ("answers", {"20": ["no"]}, {"20": {"structural": "verify"}})
    vizwiz = [
        {"image": "V.jpg", "question": "?", "answers": [{"answer": "a"}], "answer_type": "other", "answerable": 1}
    ]
    assert read_references(_write(tmp_path / "vizwiz.json", vizwiz)).texts == {"V.jpg": ["a"]}
    lines = '{"image": "a.jpg", "caption": "x"}\n{"image": "b.jpg", "captions": ["y", "z"], "id": "b"}\n'
    found = read_references(_write(tmp_path / "rows.jsonl", lines))
    assert (found.kind, found.texts) == ("captions", {"1": ["x"], "b": ["y", "z"]})
    plain = read_references(_write(tmp_path / "plain.json", {"a": "x", "b": ["y", "z"], "c": {"t": 0.3}}))
    assert (plain.kind, plain.texts) == (None, {"a": ["x"], "b": ["y", "z"], "c": {"t": 0.3}})


@pytest.mark.parametrize("content", [{"annotations": [{"image_id": 1}]}, [[1]], {}, []])
def test_files_that_are_no_references(tmp_path, content):
    with pytest.raises(DataError, match=r"r\.json: (is not laid out like any|there are no references)"):
        read_references(_write(tmp_path / "r.json", content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"1": [1, 2]}, "the reference for 1 holds int where text should be"),
        ({"1": ["x", None]}, "the reference for 1 holds NoneType where text should be"),
        ({"1": 5}, "the reference for 1 is int, neither text nor a list of texts"),
        ({"1": None}, "the reference for 1 is NoneType"),
        ({"1": []}, "the reference for 1 is empty"),
        ({"1": {}}, "the reference for 1 is empty"),
        ({"1": {"yes": "x"}}, "the reference for 1 gives 'yes' no score from 0 to 1"),
        ({"1": {"yes": True}}, "the reference for 1 gives 'yes' no score"),
        ({"1": {"yes": 30}}, "the reference for 1 gives 'yes' no score"),
        ('{"1": {"yes": NaN}}', "the reference for 1 gives 'yes' no score"),
        ('{"id": "a", "question": "?", "answers": [1, 2]}\n', "the reference for a holds int"),
        ('{"id": "a", "caption": "x", "groups": {"kind": [1]}}\n', "the groups of a are not all texts"),
        ({"annotations": [{"image_id": 1, "caption": None}]}, "the reference for 1 holds NoneType"),
        ({"annotations": [{"question_id": 6, "answers": [{"answer": 3}]}]}, "the reference for 6 holds int"),
        ({"20": {"imageId": "n1", "question": "Is it red?"}}, "the reference for 20 is a question without an answer"),
    ],
)
def test_references_that_are_no_texts(tmp_path, content, message):
    name = "r.jsonl" if isinstance(content, str) and "\n" in content else "r.json"
    with pytest.raises(DataError, match=rf"{name}: {message}"):
        read_references(_write(tmp_path / name, content))


_TWICE = {
    "rows.jsonl": '{"id": "a", "question": "?", "answer": "x"}\n{"id": "a", "question": "?", "answer": "y"}\n',
    "captions.jsonl": '{"id": "a", "caption": "x"}\n{"id": "a", "caption": "y"}\n',
    "groups.jsonl": "".join(f'{{"id": "a", "caption": "x", "groups": {{"kind": "{kind}"}}}}\n' for kind in "pq"),
    "list.json": [{"id": "a", "answers": ["x"]}, {"id": "a", "answers": ["y"]}],
    "number.jsonl": '{"id": 2, "answer": "x"}\n{"answer": "y"}\n',
    "vqa.json": {"annotations": [VQA["annotations"][0], VQA["annotations"][1] | {"question_id": "5"}]},
}


@pytest.mark.parametrize("name", _TWICE)
def test_an_id_has_one_list_of_references(tmp_path, name):
    with pytest.raises(DataError, match=rf"{name}: has two references for [a25] that differ; keep one, or join"):
        read_references(_write(tmp_path / name, _TWICE[name]))


def test_a_mapping_names_an_id_once(tmp_path):
    text = '{"a": "x", "b": "z", "a": "y"}'
    for read in (read_references, read_predictions):
        with pytest.raises(DataError, match=r"r\.json: an object in it names a twice, with different values; keep one"):
            read(_write(tmp_path / "r.json", text))


def test_what_comes_twice_and_says_the_same_is_no_harm(tmp_path):
    assert read_references(_write(tmp_path / "r.json", '{"a": ["x"], "a": ["x"]}')).texts == {"a": ["x"]}
    lines = '{"id": "a", "answer": "x"}\n' * 2
    assert read_references(_write(tmp_path / "r.jsonl", lines)).texts == {"a": ["x"]}
    vqa = {"annotations": VQA["annotations"] * 2}
    assert read_references(_write(tmp_path / "vqa.json", vqa)).texts.keys() == {"5", "6"}


def test_rows_without_an_id_go_by_their_line_as_in_a_manifest(tmp_path):
    lines = '\r\n{"image": "a.jpg", "caption": "x"}\r\n\n  \n{"image": "b.jpg", "caption": "y"}\n'
    path = _write(tmp_path / "rows.jsonl", lines)
    assert [row.id for row in read_manifest(path, check_media=False)] == list(read_references(path).texts) == ["2", "5"]
    path = _write(tmp_path / "rows.jsonl", lines.split("\n\n")[0])
    assert [row.id for row in read_manifest(path, check_media=False)] == list(read_references(path).texts) == ["2"]


def test_vizwiz_captions_that_do_not_count_are_no_references(tmp_path):
    def caption(image, text, **flags):
        return {"image_id": image, "caption": text, "is_precanned": False, "is_rejected": False} | flags

    captions = [
        caption(0, "a can of soup"),
        caption(0, "Quality issues are too severe to recognize visual content.", is_precanned=True),
        caption(1, "spam", is_rejected=True),
    ]
    references = _write(tmp_path / "val.json", {"images": [{"id": 0}, {"id": 1}], "annotations": captions})
    assert read_references(references).texts == {"0": ["a can of soup"]}
    predicted = [{"image_id": 0, "caption": "a can of soup"}, {"image_id": 1, "caption": "spam"}]
    result = score_files(_write(tmp_path / "p.json", predicted), references, ["bleu_1"], tokenizer="python")
    assert (result.scores.rows, result.scores.values) == (1, {"bleu_1": pytest.approx(100)})
    assert result.as_text().splitlines()[0] == "1 rows; 1 passed over: no caption of theirs counts"
    assert result.as_dict()["passed_over"] == 1


def test_a_file_is_scored_against_a_file(tmp_path):
    answers = [{"question_id": 6, "answer": "Yes."}, {"question_id": 5, "answer": "dog"}]
    predictions, references = _write(tmp_path / "p.json", answers), _write(tmp_path / "r.json", VQA)
    result = score_files(predictions, references)
    assert result.scores.values == {"vqa_accuracy": pytest.approx(80)}
    assert result.scores.groups["answer_type"]["yes/no"]["vqa_accuracy"].value == pytest.approx(60)
    assert result.as_text().splitlines()[0] == "2 rows"
    assert score_files(predictions, references, ["exact_match"]).scores.values == {"exact_match": 100.0}


def test_captions_get_every_score_that_can_be_had(tmp_path):
    predictions = _write(tmp_path / "p.json", [{"image_id": 1, "caption": "a red dog"}])
    references = _write(tmp_path / "r.json", COCO)
    with pytest.raises(DataError, match=r"lacks 1 of 2 ids of .*: 2; predict them, or .* --only-predicted"):
        score_files(predictions, references)
    names = ["bleu_1", "rouge_l"]
    result = score_files(predictions, references, names, only_predicted=True, tokenizer="python")
    assert result.scores.values == {"bleu_1": pytest.approx(100), "rouge_l": pytest.approx(100)}
    assert list(result.scores.groups["domain"]) == ["in-domain"]


def test_files_that_do_not_match(tmp_path):
    references = _write(tmp_path / "r.json", {"1": ["x"]})
    with pytest.raises(DataError, match=r"p\.json: 1 of 2 ids are not in .*r\.json: 9"):
        score_files(_write(tmp_path / "p.json", {"1": "x", "9": "y"}), references)
    with pytest.raises(ConfigError, match=r"r\.json: does not tell whether .* name a --metric"):
        score_files(_write(tmp_path / "p.json", {"1": "x"}), references)
