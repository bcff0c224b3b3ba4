"""The published normalisation rules, one by one. Expected values follow from the rules, oddities included."""

import pytest

from epalm.metrics import normalise_answer


@pytest.mark.parametrize(
    ("written", "normalised"),
    [
        ("Yes", "yes"),
        ("the  Cat\n", "cat"),
        ("an apple", "apple"),
        ("two", "2"),
        ("None", "0"),
        ("ten dogs", "10 dogs"),
        ("eleven", "eleven"),
        ("yes.", "yes"),
        ("2.5", "2.5"),
        ("no. 5", "no 5"),
        ("red-white", "red white"),  # a joining mark parts words
        ("red - white", "red white"),
        ("red, white", "red white"),  # beside a space it goes
        ("red,white", "red white"),
        ("1,000", "1000"),
        ("1,000-2,000", "10002000"),  # a comma between digits turns parting off for every mark
        ("x-y z- w", "xy z w"),  # one mark beside a space: all of its kind are dropped
        ("what?!", "what"),
        ("it's", "it's"),  # the apostrophe is no punctuation here
        ("dont know", "don't know"),
        ("Couldn'tve", "couldn't've"),
        ("couldnt've", "couldn't've"),
        ("somebody'd", "somebodyd"),  # slip of the published table
        ("id've", "id've"),  # listed in upper case only, so never reached
        ("yall'd've", "y'all'd've"),
        ("'ows'at", "'ow's'at"),
        ("a", ""),
        ("", ""),
        ("z" + "." * 33, "z."),  # 32 periods at most are taken away
    ],
)
def test_rule(written, normalised):
    assert normalise_answer(written) == normalised


def test_number_words_come_before_articles_and_contractions():
    assert normalise_answer("The one that isnt a dog") == "1 that isn't dog"
