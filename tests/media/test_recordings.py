"""Several recordings in one file: all of them are heard, each at its own rate, or the file is refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from sound_files import RATE, encoded, heard, refusal, sine

from epalm.media import load_audio

soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")
pytest.importorskip("av", reason="PyAV is not installed")
pytest.importorskip("soxr", reason="soxr is not installed")

TAG = b"TAG" + bytes(125)


def recording(folder: Path, kind: str, hertz: int, rate: int, channels: int = 1) -> bytes:
    """One second of a pitch."""
    path = folder / f"{hertz}-{rate}-{channels}.{kind}"
    samples = np.tile(sine(rate, hertz), (channels, 1))
    if kind == "oga":
        encoded(path.with_suffix(".ogg"), samples, rate=rate, codec="flac", layout="stereo" if channels > 1 else "mono")
        return path.with_suffix(".ogg").read_bytes()
    kinds = {"vorbis": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"), "wav": ("WAV", "PCM_16"), "flac": ("FLAC", "PCM_16")}
    soundfile.write(path, samples.T, rate, format=kinds[kind][0], subtype=kinds[kind][1])
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["vorbis", "opus", "oga", "wav", "flac"])
@pytest.mark.parametrize("second", [(48000, 1), (24000, 1), (48000, 2), (24000, 2)])
def test_every_recording_is_heard_at_its_own_rate(tmp_path, kind, second):
    parts = [recording(tmp_path, kind, 440, 48000), recording(tmp_path, kind, 1000, *second)]
    path = tmp_path / "joined"
    path.write_bytes(b"".join(parts))
    alone = np.concatenate([load_audio(io.BytesIO(part), RATE) for part in parts])
    sound = load_audio(path, RATE)
    assert len(sound) == len(alone) == 2 * RATE
    seam = slice(RATE - 500, RATE + 500)  # where one rate follows upon itself, the filter sees both
    np.testing.assert_allclose(np.delete(sound, seam), np.delete(alone, seam), atol=1e-5)
    np.testing.assert_array_equal(load_audio(io.BytesIO(path.read_bytes()), RATE), sound)
    assert heard(path, parts=2) == [440, 1000]


def test_three_recordings_with_tags_around_them(tmp_path):
    path = tmp_path / "a.ogg"
    id3 = b"ID3\x04\x00\x00\x00\x00\x00\x20" + bytes(32)
    pieces = [id3, recording(tmp_path, "vorbis", 440, 48000), TAG, recording(tmp_path, "opus", 1000, 48000)]
    path.write_bytes(b"".join([*pieces, recording(tmp_path, "vorbis", 700, 16000, 2), TAG]))
    assert heard(path, parts=3) == [440, 1000, 700]


@pytest.mark.parametrize("kind", ["vorbis", "opus", "oga"])
def test_a_chain_of_which_one_recording_is_cut_short(tmp_path, kind):
    first, second = recording(tmp_path, kind, 440, 48000), recording(tmp_path, kind, 1000, 48000)
    path = tmp_path / "a.ogg"
    path.write_bytes(first + second[: len(second) // 2])
    message = refusal(path)
    assert message.startswith("damaged or cut short at ")
    assert 1 <= float(message.split(" at ")[1].split(" s")[0]) < 2
    path.write_bytes(first[: len(first) // 2] + second)
    assert refusal(path).startswith("damaged or cut short at 0.")


@pytest.mark.parametrize("kind", ["vorbis", "opus", "oga"])
def test_an_ogg_that_is_damaged_inside_a_page(tmp_path, kind):
    """Decoders leave the page out, and give a shorter sound."""
    data = bytearray(recording(tmp_path, kind, 440, 48000))
    data[len(data) * 2 // 3] ^= 0x10
    (tmp_path / "a.ogg").write_bytes(data)
    assert refusal(tmp_path / "a.ogg").startswith("damaged or cut short at ")


def test_an_ogg_without_one_of_its_pages(tmp_path):
    data = encoded(tmp_path / "a.ogg", sine(16000, 440, 5.0), rate=16000, codec="libopus").read_bytes()
    places = [i for i in range(len(data)) if data[i : i + 4] == b"OggS"]
    (tmp_path / "a.ogg").write_bytes(data[: places[3]] + data[places[4] :])
    assert refusal(tmp_path / "a.ogg").startswith("damaged or cut short at 1.")


def test_a_film_in_ogg_is_whole_if_its_sound_is(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "a.ogg"
    with av.open(str(path), "w") as container:
        film = container.add_stream("libvpx", rate=5)
        film.width, film.height, film.pix_fmt = 32, 32, "yuv420p"
        sound = container.add_stream("libopus", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(sine(48000, 440, 4.0)[None].astype(np.float32), format="flt", layout="mono")
        frame.sample_rate = 48000
        for _ in range(20):
            container.mux(film.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")))
        container.mux([*film.encode(), *sound.encode(frame), *sound.encode()])
    assert len(load_audio(path, RATE)) == 4 * RATE
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert refusal(path).startswith("damaged or cut short at ")


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_what_stands_behind_a_recording_and_is_none_is_let_be(tmp_path, name):
    path = tmp_path / name
    soundfile.write(path, sine(16000, 440), 16000)
    expected = load_audio(path, RATE)
    whole = path.read_bytes()
    for behind in (b"\n", TAG, bytes(5000), b"RIFF", b"fLaC", np.random.default_rng(0).bytes(3000)):
        path.write_bytes(whole + behind)
        np.testing.assert_array_equal(load_audio(path, RATE), expected)
