"""`epalm score` end to end, on files in the official formats: the numbers are those of the official evaluators."""

from __future__ import annotations

import json
import random
from itertools import product

import pytest

from epalm.metrics import JAVA_TOKENIZER
from epalm.metrics.tokenizer_choice import choose_tokenizer

ANSWERS = [
    "yes", "Yes.", "two", "2", "the dog", "dog", "1,000", "red-white", "red white", "dont know", "don't  know", "u.s.",
    "none", "STOP", "stop!", "a", "12:30", "2.5",
]  # fmt: skip

RECORDED = {
    "overall": 20.83,
    "question_type": {"what is": 43.06, "is the": 10.19, "how many": 9.26},
    "answer_type": {"other": 21.54, "yes/no": 8.64, "number": 31.6},
}


def asked() -> list[dict]:
    """Questions with three different answers of ten, with two, and with one that all gave."""
    questions = []
    for i, (first, second) in enumerate(product(ANSWERS, ANSWERS)):
        said = [first] * (i % 5 + 1) + [second] * (9 - i % 5)
        if i % 7 == 0:
            said[-1] = ANSWERS[i % len(ANSWERS)]
        questions.append(
            {
                "question_id": i,
                "image_id": i,
                "question_type": ("what is", "is the", "how many")[i % 3],
                "answer_type": ("other", "yes/no", "number", "other")[i % 4],
                "answers": [
                    {"answer": text, "answer_id": n, "answer_confidence": "yes"} for n, text in enumerate(said)
                ],
            }
        )
    return questions


def test_vqa_accuracy_of_every_type(tmp_path, epalm):
    """Recorded from the official evaluator (GT-Vision-Lab/VQA as it stands), which rounds to two digits."""
    questions = asked()
    answers = [{"question_id": i, "answer": ANSWERS[(3 * i + i // 18) % len(ANSWERS)]} for i in range(len(questions))]
    (tmp_path / "annotations.json").write_text(json.dumps({"annotations": questions}))
    (tmp_path / "results.json").write_text(json.dumps(answers))
    command = ("score", tmp_path / "results.json", tmp_path / "annotations.json", "--json", tmp_path / "scores.json")
    assert epalm(*command).code == 0
    content = json.loads((tmp_path / "scores.json").read_text())
    assert round(content["scores"]["vqa_accuracy"]["value"], 2) == RECORDED["overall"]
    for kind in ("question_type", "answer_type"):
        found = {name: round(of["scores"]["vqa_accuracy"]["value"], 2) for name, of in content["groups"][kind].items()}
        assert found == RECORDED[kind]


@pytest.mark.slow
@pytest.mark.java
def test_captions_in_cocos_formats(tmp_path, epalm):
    """Tokens by Stanford's tokeniser, scores by pycocoevalcap, on files as pycocotools reads them."""
    if choose_tokenizer().name != JAVA_TOKENIZER:
        pytest.skip("java or pycocoevalcap is not installed")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
    from pycocotools.coco import COCO

    rng = random.Random(4)
    text = "a man's dog (brown), doesn't run; well-known 2.5 trees... \"quoted\" sitting on the grass near a river"
    words = text.split(" ")
    pictures = [100 + 7 * i for i in range(60)]

    def caption() -> str:
        said = [*rng.choices(words, k=rng.randint(4, 12)), "river"]  # of a last "a." the caption after it decides
        return " ".join(said).capitalize() + rng.choice([".", "", " !"])

    annotations = [{"id": n, "image_id": i, "caption": caption()} for n, i in enumerate(pictures * 5)]
    rng.shuffle(annotations)
    content = {"images": [{"id": i} for i in pictures], "annotations": annotations, "type": "captions", "info": {}}
    results = [{"image_id": i, "caption": caption()} for i in reversed(pictures[:50])]  # not all are predicted
    references, predictions = tmp_path / "captions.json", tmp_path / "results.json"
    references.write_text(json.dumps(content))
    predictions.write_text(json.dumps(results))

    names = ["bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider"]  # METEOR is in test_java_metrics
    command = ("score", predictions, references, "--only-predicted", "--json", tmp_path / "scores.json")
    assert epalm(*command, *(part for name in names for part in ("--metric", name))).code == 0
    content = json.loads((tmp_path / "scores.json").read_text())

    known = COCO(str(references))
    given = known.loadRes(str(predictions))
    ids = given.getImgIds()
    theirs = PTBTokenizer().tokenize({i: known.imgToAnns[i] for i in ids})
    ours = PTBTokenizer().tokenize({i: given.imgToAnns[i] for i in ids})
    scores = [*Bleu(4).compute_score(theirs, ours, verbose=0)[0]]
    scores += [scorer.compute_score(theirs, ours)[0] for scorer in (Rouge(), Cider())]
    assert content["rows"] == len(ids) == 50
    assert content["tokenizer"] == JAVA_TOKENIZER
    found = [content["scores"][name]["value"] for name in names]
    assert found == pytest.approx([100 * score for score in scores], rel=1e-9)
