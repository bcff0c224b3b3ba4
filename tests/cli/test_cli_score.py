"""`epalm score`: anyone's predictions against references, without a model."""

import json


def test_score(tmp_path, epalm, refused):
    predictions, references = tmp_path / "predictions.json", tmp_path / "references.json"
    predictions.write_text(json.dumps([{"image_id": 1, "caption": "a red dog"}, {"image_id": 2, "caption": "x"}]))
    captions = [{"image_id": 1, "id": 1, "caption": "a red dog"}, {"image_id": 2, "id": 2, "caption": "a cat"}]
    references.write_text(json.dumps({"images": [], "annotations": captions}))
    command = ("score", predictions, references, "--metric", "bleu_1", "--tokenizer", "python")
    code, out, err = epalm(*command, "--metric", "rouge_l", "--json", tmp_path / "scores.json")
    assert (code, err) == (0, "")
    rows, bleu, rouge, tokeniser = out.splitlines()
    assert rows == "2 rows"
    assert bleu.startswith("bleu_1 58.41 [")
    assert rouge.startswith("rouge_l 50.00 [0.00, 100.00]")
    assert tokeniser == "tokeniser: ptb-like (epalm)"
    result = json.loads((tmp_path / "scores.json").read_text())
    assert result["scores"]["rouge_l"] == {"value": 50.0, "low": 0.0, "high": 100.0}
    assert result["tokenizer"] == "ptb-like (epalm)"
    assert "unknown metric 'cidr'; did you mean 'cider'?" in refused(*command, "--metric", "cidr")
    before = predictions.read_bytes()
    assert "--json: " + str(predictions) + " is where PREDICTIONS is" in refused(*command, "--json", predictions)
    assert predictions.read_bytes() == before
    assert "unknown tokeniser 'x'; choose from auto, java, python" in refused(*command[:-1], "x")
    predictions.write_text(json.dumps([{"image_id": 1, "caption": "a red dog"}]))
    assert "lacks 1 of 2 ids" in refused(*command)
    assert epalm(*command, "--only-predicted").out.splitlines()[0] == "1 rows"


def test_references_that_are_no_texts(tmp_path, refused):
    predictions, references = tmp_path / "predictions.json", tmp_path / "references.json"
    predictions.write_text('{"20": "imageId"}')
    references.write_text('{"20": {"imageId": "n1", "question": "Is it red?", "isBalanced": true}}')
    result = refused("score", predictions, references, "--metric", "exact_match")
    assert result.startswith(f"epalm: {references}: the reference for 20 is a question without an answer; ")
    references.write_text('{"20": [1, 2]}')
    result = refused("score", predictions, references, "--metric", "exact_match")
    assert result == f"epalm: {references}: the reference for 20 holds int where text should be\n"
