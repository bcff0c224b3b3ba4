"""`epalm data`: what is there, what is missing, and rows of what is there."""

import json

from data.published.published_layouts import fill

from epalm.data.manifest import read_manifest

CONTENT = {
    "videos": [{"video_id": f"video{n}", "split": "test"} for n in range(6)],
    "sentences": [{"video_id": f"video{n}", "caption": f"clip {n}"} for n in range(6)],
}


def test_check_names_what_is_there_and_what_is_not(tmp_path, epalm):
    fill(tmp_path, {"MSRVTT_data.json": CONTENT}, ["video/video0.mp4", "video/video1.mp4"])
    code, out, err = epalm("data", "check", "msrvtt_captions", tmp_path, "--json", tmp_path / "found.json")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"MSR-VTT captions in {tmp_path}"
    assert "  test: 2 rows (official); 4 of 6 video files missing, for 4 rows: video2, video3, video4, ..." in lines
    assert "  train7k: not there; it is read from msrvtt_caption_train7k.json" in lines
    assert lines[-1].startswith("  video: https://")
    content = json.loads((tmp_path / "found.json").read_text())
    assert content["splits"]["test"]["missing_media"] == ["video2", "video3", "video4", "video5"]
    assert content["not_there"] == {"train7k": "msrvtt_caption_train7k.json"}


def test_check_fails_where_nothing_can_be_used(tmp_path, epalm):
    code, out, err = epalm("data", "check", "gqa", tmp_path)
    assert code == 2
    assert "val: not there; it is read from val_balanced_questions.json, or valid.json" in out
    assert err == f"epalm: {tmp_path}: gqa: no split can be used\n"
    fill(tmp_path, {"MSRVTT_data.json": CONTENT}, ["video0.mp4"])
    command = ("data", "check", "msrvtt_captions", tmp_path)
    assert epalm(*command, "--split", "test").code == 0
    _, _, err = epalm(*command, "--split", "test", "--split", "train7k", "--split", "val")
    assert err == f"epalm: {tmp_path}: msrvtt_captions: splits 'train7k', 'val' cannot be used\n"
    code, out, err = epalm("data", "check", "vqav2", tmp_path, "--split", "val")
    assert (code, err) == (2, f"epalm: {tmp_path}: vqav2: split 'val' cannot be used\n")
    assert "  val: not there; it is read from v2_OpenEnded_mscoco_val2014_questions.json and " in out
    assert "has no split 'x'" in epalm(*command, "--split", "x").err


def test_a_split_that_cannot_be_read_stops_no_other(tmp_path, epalm):
    question = {"201": {"imageId": "n1", "question": "Is it red?", "answer": "no"}}
    foreign = {"images": [], "annotations": []}
    files = {"testdev_balanced_questions.json": question, "train.json": foreign, "valid.json": "{"}
    fill(tmp_path, files, ["n1.jpg"])
    code, out, err = epalm("data", "check", "gqa", tmp_path, "--json", tmp_path / "found.json")
    assert (code, err) == (2, f"epalm: {tmp_path}: gqa: splits 'train', 'val' cannot be used\n")
    lines = out.splitlines()
    assert "  testdev: 1 rows (official); all 1 image files there" in lines
    assert f"  train: cannot be read: {tmp_path / 'train.json'}: not laid out as GQA is published, rows" in out
    assert f"  val: cannot be read: {tmp_path / 'valid.json'}: is not JSON" in out
    content = json.loads((tmp_path / "found.json").read_text())
    assert (list(content["splits"]), list(content["unreadable"])) == (["testdev"], ["train", "val"])
    assert epalm("data", "check", "gqa", tmp_path, "--split", "testdev").code == 0


def test_rows_are_written_for_training(tmp_path, epalm, refused):
    fill(tmp_path, {"MSRVTT_data.json": CONTENT}, ["video/video0.mp4", "video/video1.mp4"])
    command = ("data", "rows", "msrvtt_captions", tmp_path, "--split", "test", "--output", tmp_path / "rows.jsonl")
    assert "4 of 6 video files missing, for 4 rows: video2, video3, video4, ...; " in refused(*command)
    assert not (tmp_path / "rows.jsonl").exists()
    code, out, _ = epalm(*command, "--skip-missing")
    assert code == 0
    assert out.startswith(f"{tmp_path / 'rows.jsonl'}: 2 rows (official); 4 of 6 video files missing")
    rows = read_manifest(tmp_path / "rows.jsonl")
    assert [(row.id, row.targets) for row in rows] == [("video0", ("clip 0",)), ("video1", ("clip 1",))]


def test_rows_that_cannot_be_written(tmp_path, refused):
    fill(tmp_path, {"MSRVTT_data.json": CONTENT})
    command = ("data", "rows", "msrvtt_captions", tmp_path, "--output", tmp_path / "rows.jsonl", "--skip-missing")
    assert "test: 0 rows (official); 6 of 6 video files missing" in refused(*command, "--split", "test")
    assert "no annotations of msrvtt_captions train7k" in refused(*command, "--split", "train7k")
    assert "has no split 'x'" in refused(*command, "--split", "x")


def test_list(epalm):
    out = epalm("data", "list").out
    assert "vqav2 (VQAv2, image): train, val, test-dev, test, karpathy_train, karpathy_val" in out


def test_soft_scores_and_groups_survive_the_manifest(tmp_path, epalm):
    row = {"img_id": "COCO_val2014_000000000042", "sent": "How many?", "question_id": 42, "answer_type": "number"}
    fill(tmp_path, {"karpathy_val.json": [row | {"label": {"2": 1, "3": 0.3}}]}, ["COCO_val2014_000000000042.jpg"])
    output = tmp_path / "rows.jsonl"
    assert epalm("data", "rows", "vqav2", tmp_path, "--split", "karpathy_val", "--output", output).code == 0
    (found,) = read_manifest(output)
    assert (found.id, found.targets, found.weights) == ("42", ("2", "3"), (1.0, 0.3))
    assert found.groups == {"answer_type": "number"}


def test_rows_that_count_as_wrong_survive_the_manifest(tmp_path, epalm):
    row = {"img_id": "COCO_val2014_000000000042", "sent": "How many?", "question_id": 42, "label": {}}
    content = [row, row | {"question_id": 43, "label": {"2": 1}}]
    fill(tmp_path, {"karpathy_test.json": content}, ["COCO_val2014_000000000042.jpg"])
    output = tmp_path / "rows.jsonl"
    _, out, _ = epalm("data", "rows", "vqav2", tmp_path, "--split", "karpathy_test", "--output", output)
    assert "2 rows (rows with soft scores); 1 of them without an answer that scores, which count as wrong; " in out
    assert [(row.id, row.counts_as_wrong) for row in read_manifest(output)] == [("42", True), ("43", False)]
