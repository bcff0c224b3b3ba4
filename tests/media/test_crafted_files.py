"""Files made to be read for ever, or into more memory than there is."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from tiny_media import save_film

from epalm.errors import MediaError
from epalm.media import load_audio, load_image, load_video
from epalm.media.files import FileWindow
from epalm.media.modality import modality_of
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


def tiff(previews: int) -> bytes:
    """Pages of one pixel, each marked as a smaller copy of another."""
    tags = {254: 1, 256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: 0, 278: 1, 279: 1}
    content = b"II*\0" + struct.pack("<I", 8)
    for page in range(1, previews + 1):
        content += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in tags)
        content += struct.pack("<I", len(content) + 4 if page < previews else 0)
    return content


def test_of_a_row_of_previews_without_end_some_are_looked_at():
    file = Counting(tiff(2500))
    assert load_image(file).size == (1, 1)
    assert file.count < len(file.getvalue()) / 2
    assert load_image(io.BytesIO(tiff(3))).size == (1, 1)


def test_an_animation_that_claims_any_number_of_pictures(tmp_path):
    path = tmp_path / "a.png"
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    first.save(path, save_all=True, append_images=[second])
    assert len(load_video(path, 2)) == 2
    content = path.read_bytes()
    at = content.index(b"acTL")
    claim = b"acTL" + struct.pack(">II", (1 << 31) - 1, 0)
    path.write_bytes(content[:at] + claim + struct.pack(">I", zlib.crc32(claim)) + content[at + 16 :])
    with pytest.raises(MediaError, match=r"too large to be decoded safely: 8 x 8, 2147483647 pictures"):
        load_video(path, 2)


def test_silence_that_no_memory_holds(tmp_path, monkeypatch):
    """By a time stamp that lies days ahead, and of a recording that is as long as it says."""
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.m4a"), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        for number in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, 1024 * number
            for packet in stream.encode(frame):
                packet.pts = packet.dts = packet.pts + (8000 * 100_000 if number > 9 else 0)
                container.mux(packet)
    with pytest.raises(MediaError, match=r"a\.m4a: longer than 24 hours, or with wrong time stamps"):
        load_audio(tmp_path / "a.m4a", 8000)
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 1000)
    assert len(load_audio(tmp_path / "a.wav", 8000)) == 64_000
    monkeypatch.setattr("epalm.media.tracks.LONGEST", 7)
    with pytest.raises(MediaError, match=r"a\.wav: longer than"):
        load_audio(tmp_path / "a.wav", 8000)


@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.4,\nb.ts\n",  # for whose end one would wait
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.4,\nb.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile b.ts\n",
    ],
)
def test_a_playlist_is_no_film_and_no_recording(tmp_path, content):
    """What it names may change, while features are kept by what it holds itself."""
    pytest.importorskip("av")
    save_film(tmp_path / "b.ts", (255, 0, 0), 440)
    path = tmp_path / "a.mp4"
    path.write_text(content)
    for load in (load_video, load_audio):
        with pytest.raises(MediaError, match="in a format that can be read here, or damaged from its start"):
            load(path, 2)
    assert modality_of(path) == "video"
