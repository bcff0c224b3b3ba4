"""What the tests of decoding share."""

from __future__ import annotations

import pytest

from epalm.media.film import Film


@pytest.fixture
def decoded(monkeypatch) -> list[int]:
    """Gets the number of every frame that comes out of the decoder."""
    frame_numbers: list[int] = []
    original = Film._decoded

    def watched(self, *arguments):
        for time, frame in original(self, *arguments):
            frame_numbers.append(round(time * 25))
            yield time, frame

    monkeypatch.setattr(Film, "_decoded", watched)
    return frame_numbers
