import pytest

from epalm.errors import DataError
from epalm.metrics import exact_match, score, vqa_accuracy


@pytest.mark.parametrize(
    ("right", "expected"),
    # By the formula: of 10 leave-one-out sets, `right` hold one match less.
    [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0)],
)
def test_official_score_for_a_number_of_agreeing_humans(right, expected):
    answers = ["red"] * right + ["blue"] * (10 - right)
    assert vqa_accuracy("red", answers) == pytest.approx(expected, abs=1e-12)


def test_where_humans_differ_both_sides_are_normalised():
    answers = ["Two"] * 5 + ["the 2."] * 4 + ["3"]
    assert vqa_accuracy("two", answers) == 1.0
    assert vqa_accuracy("A three!", answers) == pytest.approx(0.3)


def test_where_all_humans_wrote_the_same_nothing_is_normalised():
    assert vqa_accuracy("STOP", ["STOP"] * 10) == 1.0
    assert vqa_accuracy("stop", ["STOP"] * 10) == 0.0
    assert vqa_accuracy(" STOP\n", ["STOP"] * 9 + ["STOP "]) == 1.0  # only outer spaces never count


def test_soft_scores_are_looked_up_after_normalisation():
    key = {"the dog": 0.6, "cat": 1, "Dog.": 0.3}
    assert vqa_accuracy("dog", key) == 0.6
    assert vqa_accuracy("a cat", key) == 1.0
    assert vqa_accuracy("bird", key) == 0.0


def test_too_few_humans_are_refused_not_scored_low():
    with pytest.raises(ValueError, match=r"4 human answers or more, got 3; use exact_match"):
        vqa_accuracy("red", ["red"] * 3)
    with pytest.raises(DataError, match=r"^row 2: vqa_accuracy needs 4"):
        score(["vqa_accuracy"], ["red", "red"], [["red"] * 4, ["red"]])


def test_exact_match_is_normalised_and_takes_any_answer():
    assert exact_match("The Dog.", ["cat", "dog"]) == 1.0
    assert exact_match("dogs", ["cat", "dog"]) == 0.0
    assert exact_match("two", {"2": 0.3}) == 1.0
    assert exact_match("two", {"2": 0, "3": 1}) == 0.0


def test_whole_split_in_percent():
    references = [["red"] * 2 + ["blue"] * 8, ["yes"] * 10, ["no"] * 10]
    assert score(["vqa_accuracy", "exact_match"], ["red", "yes", "yes"], references) == {
        "vqa_accuracy": pytest.approx(100 * 1.6 / 3),
        "exact_match": pytest.approx(200 / 3),
    }
