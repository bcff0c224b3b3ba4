"""Which row lends its input to which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from epalm.data.file_features import Media
from epalm.evaluation.swapping import swapped


def pictures(*names: str) -> list[Media]:
    return [{"image": Path(name)} for name in names]


@pytest.mark.parametrize("names", ["ab", "abc", "aabb", "aaabbb", "aabbc", "aaaabbcd", "abcdefghij" * 20])
def test_every_input_is_lent_as_often_as_it_is_met(names: str) -> None:
    partners = swapped(pictures(*names), range(len(names)))
    assert sorted(partners) == list(range(len(names)))
    assert all(names[row] != names[partner] for row, partner in enumerate(partners))
    assert partners == swapped(pictures(*names), range(len(names)))


@pytest.mark.parametrize("targets", ["yn" * 40, "yyn" * 40, "abcd" * 20, "yyyyyyyn" * 10])
def test_partners_say_something_else_where_that_can_be_had(targets: str) -> None:
    partners = swapped(pictures(*map(str, range(len(targets)))), targets)
    assert sorted(partners) == list(range(len(targets)))
    alike = sum(targets[row] == targets[partner] for row, partner in enumerate(partners))
    assert alike == max(0, 2 * max(Counter(targets).values()) - len(targets))


def test_an_input_of_most_rows_gets_those_of_the_others() -> None:
    names = "aaaaabc"
    partners = swapped(pictures(*names), "qrstuvw")
    assert all(names[row] != names[partner] for row, partner in enumerate(partners))
    assert {names[partner] for partner in partners[:5]} == {"b", "c"}


def test_one_input_alone_has_no_partner() -> None:
    assert swapped([], []) == []
    assert swapped(pictures("a"), "q") == [None]
    assert swapped(pictures("a", "a"), "qr") == [None, None]


def test_all_files_of_a_row_are_lent_together_to_rows_that_bring_the_same() -> None:
    names: Sequence[str] = ("ax", "ay", "bx", "by", "cz")
    both = [{"image": Path(name[0]), "audio": Path(name[1])} for name in names]
    media: list[Media] = [*both, *pictures("a", "b"), {"audio": Path("x")}]
    partners = swapped(media, range(len(media)))
    for row, partner in enumerate(partners[:7]):
        assert partner is not None
        assert media[row].keys() == media[partner].keys()
        assert not set(media[row].items()) & set(media[partner].items())
    assert partners[7] is None
