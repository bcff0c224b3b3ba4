"""Keys are found wherever they stand, and never mistaken for others."""

from __future__ import annotations

import numpy as np

from epalm.data.store.keys import KeyIndex, as_keys, key_of


def test_every_key_is_found_and_no_other() -> None:
    keys = as_keys(key_of(str(number).encode()) for number in range(5000))
    order = np.random.default_rng(0).permutation(5000)
    index = KeyIndex(keys[order])
    assert np.array_equal(order[index.find(keys)], np.arange(5000))
    strange = as_keys(key_of(b"other", str(number).encode()) for number in range(500))
    assert (index.find(strange) == -1).all()
    assert index.find(keys[:0]).shape == (0,)


def test_keys_that_agree_in_their_first_half() -> None:
    keys = np.array([[7, 3], [7, 1], [9, 0], [7, 2], [7, 1]], dtype="<u8")
    asked = np.array([[7, 2], [7, 1], [7, 3], [7, 9], [9, 1], [9, 0], [10, 0], [0, 0]], dtype="<u8")
    assert KeyIndex(keys).find(asked).tolist() == [3, 1, 0, -1, -1, 2, -1, -1]
    assert KeyIndex(keys[:0]).find(asked).tolist() == [-1] * 8


def test_parts_are_told_apart() -> None:
    assert key_of(b"ab", b"c") != key_of(b"a", b"bc") != key_of(b"abc")
    assert len(key_of(b"")) == 16
