"""What needs Java: Stanford's tokeniser, METEOR and SPICE, held against pycocoevalcap; and what is said without."""

import random

import pytest
from metrics.test_caption_tokens import RECORDED

from epalm.errors import ConfigError
from epalm.metrics import JAVA_TOKENIZER, TOKENIZER, get_metric, java, score, score_split, tokenize_caption
from epalm.metrics.tokenizer_choice import choose_tokenizer, tokenize_with_java

pytestmark = pytest.mark.java
ODD = ["", "  ", "...", "one\ntwo\u2028three\x85four\rfive", "naïve café, 日本", 'he said "no" -- (twice)', "a ||| b"]


@pytest.fixture
def needs_java():
    if choose_tokenizer().name != JAVA_TOKENIZER:
        pytest.skip("java or pycocoevalcap is not installed")


@pytest.fixture
def no_java(monkeypatch):
    monkeypatch.setenv("PATH", "")
    java.find_java.cache_clear()
    yield
    java.find_java.cache_clear()


def test_tokens_are_those_of_pycocoevalcap(needs_java):
    """The recorded lines come out of Java today as well, so that table is not our own invention."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    ours = tokenize_with_java([*RECORDED, *ODD, *RECORDED])
    assert ours[: len(RECORDED)] == ours[-len(RECORDED) :] == [tokenize_caption(caption) for caption in RECORDED]
    theirs = PTBTokenizer().tokenize(
        {row: [{"caption": caption}] for row, caption in enumerate([*RECORDED, *ODD[-3:]])}
    )
    assert [line.split() for lines in theirs.values() for line in lines] == ours[: len(RECORDED)] + ours[
        len(RECORDED) + len(ODD) - 3 : len(RECORDED) + len(ODD)
    ]
    assert ours[len(RECORDED) : len(RECORDED) + 4] == [[], [], [], ["one", "two", "three", "four", "five"]]


def test_java_is_used_where_it_is_and_named(needs_java):
    scores = score_split(["bleu_1"], ["a dog"], [["a dog"]])
    assert scores.tokenizer == JAVA_TOKENIZER
    assert f"tokeniser: {JAVA_TOKENIZER}" in scores.as_text().splitlines()


@pytest.mark.slow
def test_meteor_equals_pycocoevalcap(needs_java):
    from pycocoevalcap.meteor.meteor import Meteor

    generator = random.Random(1)
    words = ["a", "the", "dog", "dogs", "running", "runs", "man", "people", "big", "large", "car", "on", "of", "sofa"]

    def caption():
        return " ".join(generator.choice(words) for _ in range(generator.randint(1, 12)))

    references = [[caption() for _ in range(generator.randint(1, 4))] for _ in range(30)]
    predictions = [generator.choice([caption(), row[0]]) for row in references]
    predictions[0] = "..."
    lines = {row: [" ".join(tokenize_caption(text)) for text in texts] for row, texts in enumerate(references)}
    total, each = Meteor().compute_score(
        lines, {row: [" ".join(tokenize_caption(p))] for row, p in enumerate(predictions)}
    )
    tokens = [tokenize_caption(p) for p in predictions], [[line.split() for line in lines[row]] for row in lines]
    metric = get_metric("meteor")
    found = metric.statistics(*tokens)
    assert list(metric.total(found, 1)[:, 0]) == pytest.approx([100 * value for value in each], abs=1e-12)
    assert metric.total(found.sum(axis=0), len(found))[0] == pytest.approx(100 * total, abs=1e-12)
    assert 10 < 100 * total < 90


@pytest.mark.slow
def test_spice_equals_pycocoevalcap(needs_java):
    if get_metric("spice").why_not() is not None:
        pytest.skip("Stanford CoreNLP 3.6.0, which SPICE parses with, is not installed")
    from pycocoevalcap.spice.spice import Spice

    predictions, references = ["a dog on the grass", "two cats"], [["a black dog runs on grass"], ["a cat sleeps"]]
    theirs = Spice().compute_score(dict(enumerate(references)), {row: [text] for row, text in enumerate(predictions)})[
        0
    ]
    ours = score(["spice", "spider", "cider"], predictions, references)
    assert ours["spice"] == pytest.approx(100 * theirs)
    assert ours["spider"] == pytest.approx((ours["spice"] + ours["cider"]) / 2)


def test_without_java_it_is_said_and_the_rest_goes_on(no_java):
    for name in ("meteor", "spice", "spider"):
        assert get_metric(name).why_not() == "there is no Java runtime; install one, so that `java -version` works"
    with pytest.raises(ConfigError, match=r"^METEOR: there is no Java runtime"):
        score(["meteor"], ["a"], [["a"]])
    with pytest.raises(ConfigError, match=r"^PTBTokenizer: there is no Java runtime"):
        score(["cider"], ["a"], [["a"]], tokenizer="java")
    assert score_split(["bleu_1"], ["a dog"], [["a dog"]]).tokenizer == TOKENIZER


def test_missing_jars_are_named(needs_java, monkeypatch):
    monkeypatch.setattr(java, "_PACKAGE", "json")  # a package without jars
    assert get_metric("meteor").why_not() == 'meteor-1.5.jar is not there; pip install "epalm[metrics]"'
    with pytest.raises(ConfigError, match=r"^METEOR: meteor-1\.5\.jar is not there"):
        score(["meteor"], ["a"], [["a"]], tokenizer="python")


def test_spice_names_the_parser_that_it_lacks(monkeypatch):
    pytest.importorskip("pycocoevalcap")
    monkeypatch.setattr(java, "find_java", lambda: "java")
    reason = "stanford-corenlp-3.6.0.jar is not there; put it into "
    found = java.find_jar
    monkeypatch.setattr(java, "find_jar", lambda jar: None if "corenlp" in jar else found(jar))
    assert get_metric("spice").why_not().startswith(reason)
    assert (
        get_metric("spice")
        .why_not()
        .endswith(
            "/spice/lib, out of Stanford CoreNLP 3.6.0 "
            "(https://nlp.stanford.edu/software/stanford-corenlp-full-2015-12-09.zip)"
        )
    )
    with pytest.raises(ConfigError, match=f"^SPICE: {reason}"):
        score(["spice"], ["a dog"], [["a dog"]], tokenizer="python")
