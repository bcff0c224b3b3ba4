"""Scores of whole splits: groups, intervals, and that neither order nor shares of the work change a digit."""

import random

import numpy as np
import pytest

from epalm.errors import DataError
from epalm.metrics import score_split


def _answers(rows, seed=0):
    """Predictions right for about half of the rows, with references, and their answer types."""
    generator = random.Random(seed)
    predictions = [generator.choice(["red", "blue"]) for _ in range(rows)]
    people = [generator.randint(1, 10) for _ in range(rows)]
    references = [["red"] * count + ["blue"] * (10 - count) for count in people]
    return predictions, references, [{"answer_type": generator.choice(["yes/no", "other"])} for _ in range(rows)]


def test_groups_are_scored_as_splits_of_their_own():
    predictions, references, groups = _answers(60)
    scores = score_split(["vqa_accuracy", "exact_match"], predictions, references, groups=groups)
    for name in ("yes/no", "other"):
        rows = [row for row, kinds in enumerate(groups) if kinds["answer_type"] == name]
        alone = score_split(
            ["vqa_accuracy", "exact_match"], [predictions[row] for row in rows], [references[row] for row in rows]
        )
        assert scores.groups["answer_type"][name] == alone.overall
        assert scores.group_rows["answer_type"][name] == len(rows)
    other = scores.as_dict()["groups"]["answer_type"]["other"]
    assert other["scores"]["exact_match"]["value"] == scores.groups["answer_type"]["other"]["exact_match"].value
    assert scores.as_text().splitlines()[2].startswith("answer_type other (")


def test_rows_may_lack_a_group():
    scores = score_split(["exact_match"], ["a", "b"], [["a"], ["c"]], groups=[{"kind": "x"}, {}])
    assert scores.group_rows == {"kind": {"x": 1}}
    assert scores.groups["kind"]["x"]["exact_match"].value == 100.0
    with pytest.raises(DataError, match="groups of 1 rows for 2 predictions"):
        score_split(["exact_match"], ["a", "b"], [["a"], ["c"]], groups=[{}])


def test_order_of_rows_changes_no_digit():
    predictions, references, _ = _answers(500)
    references = [dict.fromkeys(set(row), random.Random(i).random()) for i, row in enumerate(references)]
    order = list(range(500))
    random.Random(1).shuffle(order)
    names = ["vqa_accuracy", "exact_match"]
    first = score_split(names, predictions, references, draws=0)
    assert first == score_split(names, [predictions[i] for i in order], [references[i] for i in order], draws=0)
    captions = [f"a {word} thing number {place % 7}" for place, word in enumerate(predictions)]
    texts = [[f"a {word} thing" for word in row] + ["the number 3"] for row in references]
    names = ["cider", "bleu_4", "rouge_l"]
    first = score_split(names, captions, texts, draws=0, tokenizer="python")
    shuffled = [captions[i] for i in order], [texts[i] for i in order]
    assert first == score_split(names, *shuffled, draws=0, tokenizer="python")


def test_interval_is_that_of_theory():
    """Of a mean over many rows, the bootstrap's ends are 1.96 standard errors away."""
    predictions, references, _ = _answers(2000)
    found = score_split(["vqa_accuracy"], predictions, references).overall["vqa_accuracy"]
    each = [100 * min(1, row.count(p) * 0.3) for p, row in zip(predictions, references, strict=True)]
    assert found.value == pytest.approx(np.mean(each))
    error = np.std(each) / np.sqrt(len(each))
    assert found.low == pytest.approx(found.value - 1.96 * error, abs=0.3 * error)
    assert found.high == pytest.approx(found.value + 1.96 * error, abs=0.3 * error)


def test_intervals_come_again_and_hold_the_score():
    captions = ["a red dog", "two cats sit here", "a man", "a boat on a lake"]
    references = [["a red dog runs"], ["two cats"], ["a man on a horse"], ["boats on the lake"]]
    names = ["bleu_1", "rouge_l", "cider"]
    scores = score_split(names, captions, references, tokenizer="python")
    assert scores == score_split(names, captions, references, tokenizer="python")
    assert scores != score_split(names, captions, references, tokenizer="python", seed=1)
    assert all(score.low < score.value < score.high for score in scores.overall.values())
    alone = score_split(["bleu_1"], captions[:1], references[:1], tokenizer="python").overall["bleu_1"]
    assert alone.low == alone.value == alone.high
    assert str(alone).count(f"{alone.value:.2f}") == 3
