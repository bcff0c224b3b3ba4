"""The channels of a recording become one: what is in them stays heard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sound_files import RATE, encoded, heard, heights, refusal, sine

from epalm.media import load_audio

soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")
pytest.importorskip("av", reason="PyAV is not installed")
pytest.importorskip("soxr", reason="soxr is not installed")

PITCHES = (300, 500, 700, 100, 900, 1100)  # of FL, FR, FC, LFE, and both surrounds
ITU = np.array([1, 1, 2**0.5, 0, 0.5**0.5, 0.5**0.5])


def save(path: Path, *channels: np.ndarray, rate: int = RATE) -> Path:
    soundfile.write(path, np.stack(channels, axis=1), rate, subtype="FLOAT" if path.suffix == ".wav" else None)
    return path


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "m4a"])
def test_opposite_phases_are_heard(tmp_path, kind):
    tone = sine(RATE, 440)
    path = tmp_path / f"a.{kind}"
    if kind == "m4a":
        encoded(path, np.stack([tone, -tone]), rate=RATE, codec="aac", layout="stereo")
    else:
        save(path, tone, -tone)
    assert heights(path, 440) == [pytest.approx(0.5, rel=0.1)]


def test_of_opposite_phases_the_loudest_channel_is_taken(tmp_path):
    tone = sine(RATE, 440).astype(np.float32)
    for channels in ((0.8 * tone, -tone), (0.7 * tone + 0.2, -tone + 0.2), (0.8 * tone, -tone, 0.1 * tone)):
        path = save(tmp_path / "a.wav", *channels)
        np.testing.assert_array_equal(load_audio(path, RATE), channels[1])


def test_ordinary_stereo_is_the_mean_however_wide_it_is(tmp_path):
    rng = np.random.default_rng(0)
    voice, room, hum = rng.normal(0, 0.1, (3, RATE))
    silence, offset = np.zeros(RATE), np.full(RATE, 0.3)
    pairs = [
        (voice, voice),
        (voice, silence),
        (voice, room),
        (voice + hum, voice - hum),
        (voice + 2 * hum, voice - 2 * hum),  # more at the sides than in the middle
        (voice, -0.4 * voice),
        (voice + offset, voice - offset),  # what is constant is not heard, nor is it a phase
        (silence, silence),
        (np.full(RATE, 0.1), np.full(RATE, -0.1)),
    ]
    for left, right in pairs:
        stereo = np.stack([left, right], axis=1).astype(np.float32)
        path = save(tmp_path / "a.wav", *stereo.T)
        np.testing.assert_array_equal(load_audio(path, RATE), stereo.mean(axis=1))


def test_a_dead_channel_among_many_is_no_phase(tmp_path):
    channels = np.zeros((16, RATE), np.float32)
    channels[5] = sine(RATE, 440)
    path = save(tmp_path / "a.wav", *channels)
    np.testing.assert_allclose(load_audio(path, RATE), channels[5] / 16, atol=1e-7)


def test_only_the_recording_whose_phases_are_opposite_is_changed(tmp_path):
    first, second = sine(RATE, 440), sine(RATE, 1000)
    parts = save(tmp_path / "a.ogg", first, 0.5 * first), save(tmp_path / "b.ogg", second, -second)
    path = tmp_path / "joined.ogg"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert heard(path, parts=2) == [440, 1000]
    sound = load_audio(path, RATE)
    np.testing.assert_array_equal(sound[:RATE], load_audio(parts[0], RATE))
    assert np.abs(sound[RATE:]).max() > 0.45


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.wav", "pcm_s16le"),
        ("a.w64", "pcm_f32le"),  # soundfile takes these floats for integers
        ("a.flac", "flac"),
        ("a.ogg", "libopus"),  # soundfile cannot read it
        ("a.m4a", "aac"),
        ("b.m4a", "alac"),
        ("a.ac3", "ac3"),
        ("a.mka", "ac3"),
    ],
)
def test_surround_sound_is_mixed_as_its_places_say(tmp_path, name, codec):
    channels = np.stack([sine(48000, pitch) for pitch in PITCHES])
    layout = "5.1(side)" if codec == "ac3" else "5.1"
    path = encoded(tmp_path / name, channels, rate=48000, codec=codec, layout=layout)
    np.testing.assert_allclose(heights(path, *PITCHES), 0.5 * ITU / ITU.sum(), atol=0.01)


def test_vorbis_keeps_its_channels_in_another_order(tmp_path):
    left, right, centre, effects, *surrounds = (sine(48000, pitch) for pitch in PITCHES)
    path = save(tmp_path / "a.ogg", left, centre, right, *surrounds, effects, rate=48000)
    np.testing.assert_allclose(heights(path, *PITCHES), 0.5 * ITU / ITU.sum(), atol=0.02)


def test_channels_without_places_are_averaged(tmp_path):
    path = save(tmp_path / "a.wav", *(sine(48000, pitch) for pitch in PITCHES), rate=48000)
    np.testing.assert_allclose(heights(path, *PITCHES), 0.5 / 6, atol=0.001)


def test_a_number_that_is_none_in_any_channel(tmp_path):
    tone = sine(RATE, 440)
    broken = tone.copy()
    broken[RATE // 2] = np.nan
    path = save(tmp_path / "a.wav", -tone, broken)
    assert refusal(path) == "holds samples that are not numbers (NaN or infinite), the first at 0.50 s"
