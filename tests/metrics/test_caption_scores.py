"""BLEU, ROUGE-L and CIDEr-D: small cases worked out by hand, and pycocoevalcap as the oracle on a larger one."""

import math
import random

import pytest

from epalm import metrics
from epalm.metrics import get_metric, tokenize_caption
from epalm.metrics.rouge import longest_common_subsequence

BLEU = ["bleu_1", "bleu_2", "bleu_3", "bleu_4"]


def score(names, predictions, references):
    """Without Java, whose tokens are the same here, and which takes its time to start."""
    return metrics.score(names, predictions, references, tokenizer="python")


def _made_up_split(rows, references_each, seed):
    """Captions with shared words, so that every score is well away from both its ends."""
    generator = random.Random(seed)
    nouns, verbs = ["man", "dog", "child", "woman", "horse", "boat"], ["runs", "sits", "jumps", "sleeps", "eats"]
    places = ["on the grass", "near a lake", "in the street", "by the old red house", "under two tall trees"]

    def caption():
        words = ["a", generator.choice(nouns), generator.choice(verbs), *generator.choice(places).split()]
        words += ["with", "a", generator.choice(nouns)] * generator.randint(0, 2)
        return " ".join(words)

    references = [[caption() for _ in range(references_each)] for _ in range(rows)]
    predictions = [generator.choice([caption(), row[0], row[-1].split(" ", 2)[-1]]) for row in references]
    predictions[0] = "..."  # nothing is left of it
    predictions[1] = "dog"  # shorter than every n-gram but the first
    return predictions, references


@pytest.mark.parametrize("references_each", [1, 5])
def test_equal_to_pycocoevalcap(references_each):
    bleu = pytest.importorskip("pycocoevalcap.bleu.bleu").Bleu(4)
    rouge = pytest.importorskip("pycocoevalcap.rouge.rouge").Rouge()
    cider = pytest.importorskip("pycocoevalcap.cider.cider").Cider()
    predictions, references = _made_up_split(120, references_each, seed=7)
    theirs_of = {row: [" ".join(tokenize_caption(text)) for text in texts] for row, texts in enumerate(references)}
    mine_of = {row: [" ".join(tokenize_caption(text))] for row, text in enumerate(predictions)}

    ours = score([*BLEU, "rouge_l", "cider"], predictions, references)

    expected = [*bleu.compute_score(theirs_of, mine_of, verbose=0)[0]]
    expected += [oracle.compute_score(theirs_of, mine_of)[0] for oracle in (rouge, cider)]
    assert list(ours.values()) == pytest.approx([100 * value for value in expected], rel=1e-9)
    assert all(1 < value < 900 for value in ours.values())


def test_bleu_by_hand():
    # 3 of 3 words, 2 of 2 pairs, 1 of 1 triple; 3 words against 4: brevity penalty exp(1 - 4/3).
    found = score(BLEU[:3], ["A dog runs."], [["a dog runs fast"]])
    assert list(found.values()) == pytest.approx([100 * math.exp(-1 / 3)] * 3, rel=1e-6)


def test_bleu_clips_repeats_and_takes_the_closest_reference():
    # "the" is allowed twice (in the second reference); the reference of 7 words is as close as none other.
    found = score(["bleu_1"], ["the the the the the the the"], [["the cat is on the big mat", "the dog"]])
    assert found["bleu_1"] == pytest.approx(200 / 7)


def test_bleu_is_of_the_corpus_not_a_mean_of_rows():
    predictions, references = ["a b c d", "x"], [["a b c d"], ["y z"]]
    whole = score(["bleu_1"], predictions, references)["bleu_1"]
    rows = [score(["bleu_1"], [p], [r])["bleu_1"] for p, r in zip(predictions, references, strict=True)]
    assert whole == pytest.approx(80 * math.exp(1 - 6 / 5))
    assert abs(whole - sum(rows) / 2) > 5


def test_rouge_by_hand():
    # Longest common subsequence "dog on grass": 3 of 4 and 3 of 5.
    precision, recall = 3 / 4, 3 / 5
    expected = (1 + 1.44) * precision * recall / (recall + 1.44 * precision)
    found = score(["rouge_l"], ["dog sits on grass"], [["a dog on green grass"]])
    assert found["rouge_l"] == pytest.approx(100 * expected)
    assert longest_common_subsequence("abcbdab", "bdcaba") == 4


def test_cider_of_the_references_themselves_is_ten_times_a_hundred():
    references = [["a red bus stands here"], ["two dogs run far away"]]
    assert score(["cider"], [row[0] for row in references], references)["cider"] == pytest.approx(1000)
    assert score(["cider"], ["nothing of that kind", "nor of this kind"], references)["cider"] == 0


def test_cider_takes_rarity_from_the_split():
    references = [["a dog"], ["a cat"], ["a bus"]]
    common, rare = (score(["cider"], [word, "x", "x"], references)["cider"] for word in ("a", "dog"))
    assert common == 0.0 < rare
    assert score(["cider"], ["a dog"], references[:1])["cider"] == 0.0


def test_rows_may_be_drawn_anew_for_an_interval():
    predictions, references = _made_up_split(20, 2, seed=3)
    tokens = (
        [tokenize_caption(text) for text in predictions],
        [[tokenize_caption(t) for t in row] for row in references],
    )
    metric = get_metric("bleu_4")
    statistics = metric.statistics(*tokens)
    picked = [4, 4, 9, 11, 19]
    direct = score(BLEU, [predictions[i] for i in picked], [references[i] for i in picked])
    assert list(metric.total(statistics[picked].sum(axis=0), len(picked))) == pytest.approx(list(direct.values()))
