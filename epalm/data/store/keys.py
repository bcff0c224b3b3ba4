"""Keys of 16 bytes, by which features are found: what they are made of, and how many are looked up at once.

Shapes: N keys, Q queries; a key is two numbers of 64 bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

KEY_BYTES = 16


def key_of(*parts: bytes) -> bytes:
    """The key of something that is told by `parts`."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.digest()[:KEY_BYTES]


def as_keys(keys: Iterable[bytes]) -> np.ndarray:
    """N keys -> (N, 2) of uint64."""
    return np.frombuffer(b"".join(keys), dtype="<u8").reshape(-1, 2)


class KeyIndex:
    """Where keys stand: they are sorted once, then found by bisection, many at a time.

    Args:
        keys: (N, 2) of uint64; of equal ones the first is found.
    """

    def __init__(self, keys: np.ndarray) -> None:
        self._order = np.argsort(keys[:, 0], kind="stable")
        self._first, self._second = keys[self._order, 0], keys[self._order, 1]

    def __len__(self) -> int:
        return len(self._order)

    def find(self, queries: np.ndarray) -> np.ndarray:
        """Positions (Q,) of int64 of queries (Q, 2) among the keys; -1 where there is none."""
        found = np.full(len(queries), -1, dtype=np.int64)
        place = np.searchsorted(self._first, queries[:, 0])
        asking = np.flatnonzero(place < len(self))
        while len(asking):  # once, but for keys that agree in their first half
            at = place[asking]
            alike = self._first[at] == queries[asking, 0]
            right = alike & (self._second[at] == queries[asking, 1])
            found[asking[right]] = self._order[at[right]]
            place[asking] += 1
            asking = asking[alike & ~right & (place[asking] < len(self))]
        return found
