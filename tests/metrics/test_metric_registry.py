import subprocess
import sys

import pytest

from epalm.errors import ConfigError, DataError
from epalm.metrics import metric_names, score


def test_names():
    captions = {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider", "meteor", "spice", "spider"}
    assert {"vqa_accuracy", "exact_match"} | captions == set(metric_names())


def test_scores_come_in_the_order_asked_for():
    assert list(score(["rouge_l", "bleu_4", "bleu_1"], ["a b"], [["a b"]], tokenizer="python")) == [
        "rouge_l",
        "bleu_4",
        "bleu_1",
    ]


def test_unknown_metric_names_the_nearest():
    with pytest.raises(ConfigError, match=r"^unknown metric 'cidr'; did you mean 'cider'\?$"):
        score(["cidr"], ["a"], [["a"]])
    with pytest.raises(ConfigError, match=r"choose from .*exact_match"):
        score(["zzz"], ["a"], [["a"]])


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        (["a"], [["a"], ["b"]], "1 predictions for 2 rows"),
        ([], [], "no rows to score"),
        (["a", "b"], [["a"], []], "row 2 has no references"),
        (["a", "b"], [["a"], "b"], "references of row 2 are one string"),
    ],
)
def test_rows_that_cannot_be_scored(predictions, references, message):
    with pytest.raises(DataError, match=message):
        score(["bleu_1"], predictions, references)


def test_metrics_need_no_torch():
    code = "import sys, epalm.metrics; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
