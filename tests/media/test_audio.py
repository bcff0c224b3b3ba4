"""Recordings as people have them become one channel at the encoder's rate, or one line."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from epalm.errors import MediaError
from epalm.media import load_audio

av = pytest.importorskip("av", reason="PyAV is not installed")
soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")
pytest.importorskip("soxr", reason="soxr is not installed")

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
RATES = [8000, 11025, 16000, 22050, 44100, 48000, 96000, 192000]


@pytest.fixture(autouse=True)
def _no_warning_leaks():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def sine(rate: int, hertz: float = 440.0, seconds: float = 1.0, phase: float = 0.3) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate + phase)


def decibels(error: np.ndarray, signal: np.ndarray) -> float:
    """The error against the signal, away from the ends, where a filter has but half of what it needs."""
    inner = slice(len(signal) // 20, -len(signal) // 20)
    return 10 * np.log10((error[inner] ** 2).mean() / (signal[inner] ** 2).mean())


def write(path: Path, samples: np.ndarray, rate: int = 16000, subtype: str | None = None) -> Path:
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def track(
    path: Path, samples: np.ndarray, rate: int, codec: str, layout: str = "mono", *, picture: bool = False, head=None
):
    """Encode (channels, N) with PyAV; `picture` adds a video stream before it."""
    with av.open(str(path), "w", options=head or {}) as container:
        if picture:
            film = container.add_stream("libx264", rate=5)
            film.width, film.height, film.pix_fmt = 32, 32, "yuv420p"
        stream = container.add_stream(codec, rate=rate, layout=layout)
        if picture:
            for _ in range(5):
                container.mux(film.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")))
            container.mux(film.encode())
        if samples.size:
            frame = av.AudioFrame.from_ndarray(samples.astype(np.float32), format="fltp", layout=layout)
            frame.rate = rate
            for piece in av.AudioResampler(stream.format, layout, rate).resample(frame):
                container.mux(stream.encode(piece))
        container.mux(stream.encode())
    return path


def refusal(source) -> str:
    with pytest.raises(MediaError) as caught:
        load_audio(source, 16000)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.__suppress_context__
    return message


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("hertz", [50.0, 440.0, 3100.0])
def test_any_rate_becomes_the_sine_sampled_there(tmp_path, rate, hertz):
    path = write(tmp_path / "a.wav", sine(rate, hertz), rate, "FLOAT")
    sound = load_audio(path, 16000)
    reference = sine(16000, hertz)
    assert sound.dtype == np.float32
    assert sound.shape == reference.shape
    assert decibels(sound - reference, reference) < -60


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_any_rate_is_the_target(tmp_path, rate):
    path = write(tmp_path / "a.wav", sine(44100, 1000.0), 44100, "FLOAT")
    reference = sine(rate, 1000.0)
    assert decibels(load_audio(path, rate) - reference, reference) < -60


@pytest.mark.parametrize("rate", [22050, 44100, 48000, 192000])
def test_what_the_target_cannot_hold_is_gone_and_not_folded_back(tmp_path, rate):
    high = sine(rate, 10000.0 if rate > 22050 else 9500.0)  # a plain choice of samples would give 6,000 or 6,500 Hz
    low = sine(rate, 1000.0)
    alone = load_audio(write(tmp_path / "a.wav", high, rate, "FLOAT"), 16000)
    assert decibels(alone, sine(16000)) < -60
    both = load_audio(write(tmp_path / "b.wav", low + high, rate, "FLOAT"), 16000)
    assert decibels(both - sine(16000, 1000.0), sine(16000, 1000.0)) < -60


def test_long_recordings_have_no_seams(tmp_path):
    path = write(tmp_path / "a.wav", sine(44100, 440.0, 20.0), 44100, "FLOAT")  # read in several blocks
    reference = sine(16000, 440.0, 20.0)
    sound = load_audio(path, 16000)
    assert len(sound) == len(reference)
    assert np.abs(sound - reference)[1000:-1000].max() < 5e-4


@pytest.mark.parametrize(
    ("name", "subtype", "error"),
    [
        ("a.wav", "PCM_U8", 1e-2),
        ("a.wav", "PCM_16", 1e-4),
        ("a.wav", "PCM_24", 1e-6),
        ("a.wav", "PCM_32", 1e-6),
        ("a.wav", "FLOAT", 1e-6),
        ("a.wav", "DOUBLE", 1e-6),
        ("a.flac", "PCM_24", 1e-6),
        ("a.aiff", "PCM_16", 1e-4),
        ("a.ogg", "VORBIS", 2e-2),
        ("a.mp3", "MPEG_LAYER_III", 2e-2),
    ],
)
def test_formats(tmp_path, name, subtype, error):
    sound = load_audio(write(tmp_path / name, sine(16000), subtype=subtype), 16000)
    assert abs(len(sound) - 16000) < 1200
    assert np.abs(sound[2000:14000] - sine(16000)[2000:14000]).max() < error


@pytest.mark.parametrize(("name", "codec"), [("a.m4a", "aac"), ("a.mka", "ac3"), ("a.webm", "libopus")])
def test_what_only_ffmpeg_knows(tmp_path, name, codec):
    samples = np.stack([sine(48000), 0.5 * sine(48000)])
    sound = load_audio(track(tmp_path / name, samples, 48000, codec, "stereo"), 16000)
    reference = 0.75 * sine(16000)
    assert abs(len(sound) - 16000) < 1000
    assert abs(np.sqrt((sound[2000:14000] ** 2).mean() / (reference[2000:14000] ** 2).mean()) - 1) < 0.02


def test_the_sound_track_of_a_video(tmp_path):
    path = track(tmp_path / "a.mkv", sine(44100)[None], 44100, "pcm_s16le", picture=True)
    sound = load_audio(path, 16000)
    assert decibels(sound - sine(16000), sine(16000)) < -60


def test_a_video_without_sound(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")))
        container.mux(stream.encode())
    assert refusal(tmp_path / "a.mp4") == f"{tmp_path / 'a.mp4'}: has no sound track"


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_channels_are_averaged(tmp_path, channels):
    samples = np.random.default_rng(0).uniform(-1, 1, (16000, channels))
    sound = load_audio(write(tmp_path / "a.wav", samples, subtype="FLOAT"), 16000)
    np.testing.assert_allclose(sound, samples.mean(axis=1), atol=1e-6)
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
    path = track(tmp_path / "a.mka", np.ascontiguousarray(samples.T), 16000, "pcm_f32le", layout)
    np.testing.assert_allclose(load_audio(path, 16000), samples.mean(axis=1), atol=1e-6)


def test_path_text_and_file_object_are_the_same(tmp_path):
    wav = write(tmp_path / "a.wav", sine(16000))
    m4a = track(tmp_path / "a.m4a", sine(16000)[None], 16000, "aac")
    for path in (wav, m4a):
        expected = load_audio(path, 16000)
        with path.open("rb") as file:
            for source in (str(path), file, io.BytesIO(path.read_bytes())):
                np.testing.assert_array_equal(load_audio(source, 16000), expected)


def test_one_sample(tmp_path):
    path = write(tmp_path / "a.wav", np.array([0.25]), subtype="FLOAT")
    np.testing.assert_array_equal(load_audio(path, 16000), [0.25])
    path = write(tmp_path / "b.wav", np.array([0.25]), 44100, subtype="FLOAT")
    assert refusal(path) == f"{path}: too short: 0.023 ms are not one sample at 16000 Hz"


def test_no_samples(tmp_path):
    path = write(tmp_path / "a.wav", np.empty(0))
    assert refusal(path) == f"{path}: holds no sound: 0 samples can be read"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_samples_that_are_not_numbers(tmp_path, value, rate):
    samples = np.stack([sine(rate), sine(rate)], axis=1)
    samples[rate // 2, 1] = value
    path = write(tmp_path / "a.wav", samples, rate, "FLOAT")
    assert refusal(path).startswith(
        f"{path}: holds samples that are not numbers (NaN or infinite), the first at 0.50 s"
    )


def test_a_rate_that_no_sound_has(tmp_path):
    path = write(tmp_path / "a.wav", sine(16000))
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 24, 3)
    path.write_bytes(data)
    assert refusal(path) == f"{path}: damaged: it claims 3 samples a second"


def test_what_is_no_recording(tmp_path):
    assert refusal(tmp_path / "none.wav") == f"{tmp_path / 'none.wav'}: no such file"
    assert refusal(tmp_path) == f"{tmp_path}: is a directory, not a recording"
    (tmp_path / "empty.wav").write_bytes(b"")
    assert refusal(tmp_path / "empty.wav") == f"{tmp_path / 'empty.wav'}: the file is empty"
    for name in ("text.wav", "text.mp3", "text.txt", "text"):
        (tmp_path / name).write_text("This is no recording.\n" * 50)
        assert "not a recording in a format that can be read here" in refusal(tmp_path / name)


CODECS = {".m4a": "aac", ".mka": "aac", ".webm": "libopus", ".mp3": "mp3"}


@pytest.mark.parametrize(
    "name",
    [
        "a.wav",
        "a.aiff",
        "a.flac",
        "a.rf64",
        "a.w64",
        "a.m4a",
        "faststart.m4a",
        "a.mka",
        "a.webm",
        "a.mp3",
        "tagged.mp3",
    ],
)
def test_cut_short(tmp_path, name):
    path = tmp_path / name
    if path.suffix in CODECS:
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 80000))
        heads = {"faststart.m4a": {"movflags": "faststart"}, "a.mp3": {"id3v2_version": "0"}}
        track(path, noise, 16000, CODECS[path.suffix], head=heads.get(name, {}))
    else:
        write(path, sine(16000, seconds=5))
    assert len(load_audio(path, 16000)) == pytest.approx(80000, abs=2048)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    message = refusal(path)
    assert "cut short" in message or "damaged" in message


@pytest.mark.parametrize(("name", "head"), [("a.mka", {"live": "1"}), ("a.mp3", {"write_xing": "0"})])
def test_what_does_not_say_how_long_it_is_gives_what_is_there(tmp_path, name, head):
    path = tmp_path / name
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 80000))
    track(path, noise, 16000, CODECS[path.suffix], head=head)
    assert len(load_audio(path, 16000)) == pytest.approx(80000, abs=2600)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert len(load_audio(path, 16000)) == pytest.approx(40000, abs=4000)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_that_lacks_pages(tmp_path, subtype):
    """Decoders give what is there and say nothing of the rest."""
    path = tmp_path / "a.ogg"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 48000 * 10), 48000, subtype=subtype, format="OGG")
    whole = path.read_bytes()
    half, places = len(whole) // 2, [i for i in range(len(whole)) if whole[i : i + 4] == b"OggS"]
    page = places[len(places) // 2]
    tagged = tmp_path / "tagged.ogg"
    tagged.write_bytes(whole + b"TAG" + bytes(125))
    assert len(load_audio(tagged, 16000)) == len(load_audio(path, 16000)) == 160000
    for damaged in (
        whole[:half],
        whole[:half] + bytes(len(whole) - half),
        whole[:half] + np.random.default_rng(1).bytes(len(whole) - half),
        whole[:page],  # cut where it is hardest to see
        whole[: page - 500] + bytes(4000) + whole[page + 3500 :],
        whole[: places[-1]],
    ):
        path.write_bytes(damaged)
        message = refusal(path)
        assert "damaged or cut short at " in message
        assert 2 < float(message.split(" at ")[1].split(" s")[0]) < 10
        with path.open("rb") as file:
            assert refusal(file) == message


@pytest.mark.parametrize("name", ["a.flac", "a.mp3"])
def test_the_last_half_is_damaged(tmp_path, name):
    path = write(tmp_path / name, sine(16000, seconds=5))
    data = path.read_bytes()
    half = len(data) // 2
    for rest in (bytes(len(data) - half), np.random.default_rng(1).bytes(len(data) - half)):
        path.write_bytes(data[:half] + rest)
        assert "damaged" in refusal(path)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.ogg", "VORBIS"), ("b.ogg", "OPUS"), ("a.aiff", "PCM_16"), ("a.mp3", "")]
)
def test_no_sample_and_one_sample_in_other_formats(tmp_path, name, codec):
    path = write(tmp_path / name, np.empty(0), subtype=codec or None)
    assert refusal(path).startswith(f"{path}: ")
    path = write(tmp_path / name, np.array([0.25]), subtype=codec or None)
    assert len(load_audio(path, 16000)) >= 1


@pytest.mark.parametrize(("kind", "name"), [("wav", "a.mp3"), ("mp3", "a.wav"), ("ogg", "a.mp4"), ("flac", "a.bin")])
def test_the_contents_count_and_not_the_name(tmp_path, kind, name):
    path = write(tmp_path / f"right.{kind}", sine(16000))
    expected = load_audio(path, 16000)
    path.rename(tmp_path / name)
    np.testing.assert_array_equal(load_audio(tmp_path / name, 16000), expected)


def test_a_stretch_of_a_long_sound(tmp_path):
    samples = np.random.default_rng(0).uniform(-1, 1, 1000).astype(np.float32)
    path = write(tmp_path / "a.wav", samples, subtype="FLOAT")
    starts = set()
    for seed in range(300):
        stretch = load_audio(path, 16000, window=900, rng=random.Random(seed))
        (start,) = (i for i in range(101) if np.array_equal(samples[i : i + 900], stretch))
        starts.add(start)
    assert {0, 100} <= starts  # the first and the last are drawn as well
    assert len(starts) > 80
    for window, rng in ((900, None), (None, random.Random(0)), (1000, random.Random(0)), (2000, random.Random(0))):
        np.testing.assert_array_equal(load_audio(path, 16000, window=window, rng=rng), samples)


def test_a_wav_written_into_a_pipe_is_whole(tmp_path):
    path = write(tmp_path / "a.wav", sine(16000, seconds=2))
    data = bytearray(path.read_bytes())
    for place in (4, data.index(b"data") + 4):
        struct.pack_into("<I", data, place, 0xFFFFFFFF)
    path.write_bytes(data)
    assert len(load_audio(path, 16000)) == 32000


@pytest.mark.parametrize("beginning", [b"", bytes(2000)])
def test_a_wav_whose_length_was_never_written_is_whole(tmp_path, beginning):
    path = write(tmp_path / "a.wav", sine(16000, seconds=2))
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    struct.pack_into("<I", data, place, 0)
    path.write_bytes(bytes(data[: place + 4]) + beginning + bytes(data[place + 4 :]))
    assert len(load_audio(path, 16000)) == 32000 + len(beginning) // 2
    chunk = b"LIST" + struct.pack("<I", 2000) + b"INFO" + bytes(1996)
    path.write_bytes(bytes(data[: place + 4]) + chunk)
    assert refusal(path) == f"{path}: holds no sound: 0 samples can be read"


def test_a_flac_whose_length_was_never_written_is_whole(tmp_path):
    path = write(tmp_path / "a.flac", sine(16000, seconds=2))
    expected = load_audio(path, 16000)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # 36 bits, behind rate, channels and width
    data[22:26] = bytes(4)
    path.write_bytes(data)
    np.testing.assert_array_equal(load_audio(path, 16000), expected)
    path.write_bytes(data[: len(data) // 2])
    assert "damaged" in refusal(path)


def test_an_mp3_in_a_wav(tmp_path):
    path = track(tmp_path / "a.wav", sine(16000, seconds=2)[None], 16000, "mp3")
    assert abs(len(load_audio(path, 16000)) - 32000) < 2600
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert "cut short" in refusal(path)


def test_a_damaged_mp3_says_nothing_past_us(tmp_path, capfd):
    path = write(tmp_path / "a.mp3", sine(16000, seconds=5))
    data = bytearray(path.read_bytes())
    data[4000:4400] = bytes(400)
    (tmp_path / "damaged").write_bytes(data)
    (tmp_path / "short.mp3").write_bytes(data[:3000])
    (tmp_path / "text.mp3").write_text("This is no recording.\n" * 50)
    for name in ("damaged", "short.mp3", "text.mp3"):
        with contextlib.suppress(MediaError):
            load_audio(tmp_path / name, 16000)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("module", ["soundfile", "soxr", "av"])
def test_without_the_extra_one_line_names_it(tmp_path, module):
    path = track(tmp_path / "a.m4a", sine(44100)[None], 44100, "aac")
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from epalm.errors import MediaError\n"
        "from epalm.media import load_audio\n"
        "try:\n    load_audio(sys.argv[1], 16000)\n"
        "except MediaError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == f'{path}: reading it takes the package {module}: pip install "epalm[audio]"\n'
    assert done.stderr == ""


def test_real_sounds():
    paths = sorted((SHARED / "esc10-mini" / "audio").glob("*.ogg"))[:10]
    if not paths:
        pytest.skip("the shared recordings are not here")
    for path in paths:
        sound, info = load_audio(path, 16000), soundfile.info(str(path))
        assert abs(len(sound) - info.frames * 16000 / info.samplerate) <= 1
        assert 0.001 < np.abs(sound).max() < 2


@pytest.mark.parametrize("name", ["EzWEO2WD_MM_70", "FDwK7T1JO_0_160"])
def test_a_clip_sounds_like_the_recording_made_of_it(name):
    folder = SHARED / "audiocaps-mini" / "media"
    if not (folder / f"{name}.mp4").exists():
        pytest.skip("the shared clips are not here")
    clip, recording = (load_audio(folder / f"{name}.{kind}", 16000) for kind in ("mp4", "wav"))
    assert abs(len(clip) - len(recording)) < 1600
    spectra = np.fft.rfft(clip, 1 << 19) * np.conj(np.fft.rfft(recording, 1 << 19))
    correlation = np.fft.irfft(spectra) / np.linalg.norm(clip) / np.linalg.norm(recording)
    assert np.abs(correlation).max() > 0.9
    shift = np.abs(correlation).argmax()
    assert min(shift, (1 << 19) - shift) < 800  # 50 ms: they were cut by two programs
