"""Files made to be read for ever: what is read of them grows with their size alone."""

from __future__ import annotations

import io

import pytest

from epalm.media.files import FileWindow
from epalm.media.mp4 import has_a_second_film, refuse_a_cut_fragment
from epalm.media.recordings import recordings
from epalm.media.tags import skip_tags


class Counting(io.BytesIO):
    """Knows how many bytes were asked of it."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        part = super().read(size)
        self.count += len(part)
        return part


HEADLESS_APE = b"item" + b"APETAGEX" + bytes(4) + (36).to_bytes(4, "little") + bytes(16)


@pytest.mark.parametrize(
    ("content", "read"),
    [
        (b"OggS" * 20_000, recordings),
        (b"OggS\0\2" * 20_000, recordings),
        ((b"OggS\0\2" + bytes(20) + b"\xff" + b"\xff" * 30) * 2_000 + b"\xff" * 70_000, recordings),
        (b"fLaC\0\0\0\x22" * 10_000, recordings),
        (b"RIFF\4\0\0\0WAVE" * 10_000, recordings),
        (b"ID3" + bytes(100_000), recordings),
        (b"ID3\4\0\0\0\0\0\0" * 10_000, recordings),
        (b"LYRICSBEGINLYRICSEND" * 5_000, lambda file: skip_tags(file, 0)),
        (HEADLESS_APE * 3_000, lambda file: skip_tags(file, 0)),
        (b"TAG" + b"\0TAG" * 25_000, lambda file: skip_tags(file, 0)),
        ((b"\0\0\0\x08free") * 10_000, refuse_a_cut_fragment),
        ((b"\0\0\0\1moof" + bytes(7) + b"\x10") * 5_000, has_a_second_film),
    ],
)
def test_it_is_read_once_and_not_anew_from_every_place(content, read):
    file = Counting(content)
    read(FileWindow(file))
    assert file.count < 500 * len(content)
