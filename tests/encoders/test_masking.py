"""SpecAugment: what is silenced of a spectrogram, how much at most, and that the seed alone decides."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import tiny_watchers
import torch

from epalm.encoders import load_encoder
from epalm.encoders.masking import MaskedSound, masked
from epalm.errors import ConfigError

FRAMES, CHANNELS, SILENCE = 1024, 128, 0.5


def silenced(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Which channels (128,) and which frames (1024,) are silent throughout."""
    found = masked(torch.ones(FRAMES, CHANNELS), random.Random(seed), SILENCE)
    gone = found == SILENCE
    channels, frames = gone.all(dim=0), gone.all(dim=1)
    assert torch.equal(gone, channels[None, :] | frames[:, None])
    assert (found[~gone] == 1).all()
    return channels, frames


def test_one_band_and_one_stretch_as_ast_was_trained() -> None:
    found = [silenced(seed) for seed in range(300)]
    for side, most, size in ((0, 24, CHANNELS), (1, 96, FRAMES)):
        widths = [int(pair[side].sum()) for pair in found]
        assert max(widths) < most  # whole ones of a width drawn below it
        assert max(widths) > 0.9 * most
        assert np.mean(widths) == pytest.approx(most / 2 - 0.5, rel=0.1)
        places = [pair[side].nonzero()[:, 0] for pair in found if pair[side].any()]
        assert all(len(place) == place[-1] - place[0] + 1 for place in places)
        assert min(int(place[0]) for place in places) < 0.05 * size
        assert max(int(place[-1]) for place in places) > 0.95 * size - 1


def test_the_rng_decides_and_the_spectrogram_stays() -> None:
    spectrogram = torch.randn(64, 32)
    before = spectrogram.clone()
    first, again, other = (masked(spectrogram, random.Random(seed), 0.0) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(spectrogram, before)


def test_silence_is_what_fills_up_a_window(tmp_path: Path) -> None:
    encoder = load_encoder(tiny_watchers.save("ast", tmp_path / "ast"))
    short = tiny_watchers.sound(0, 2000)
    values = encoder.preprocess([short])["input_values"][0, 0]  # (T, mel)
    assert values[-1].tolist() == pytest.approx([encoder.silence] * values.shape[1])


def test_every_window_of_a_sound_is_masked_apart_and_no_other_sound(tmp_path: Path) -> None:
    encoder = load_encoder(tiny_watchers.save("ast", tmp_path / "ast"), long_sounds="windows")
    long, short = tiny_watchers.sound(1, 2 * encoder.window), tiny_watchers.sound(2, encoder.window)
    plain = encoder.preprocess([long, short])
    features = encoder.preprocess([MaskedSound(long, "a"), short])
    assert features.keys() == plain.keys()
    assert torch.equal(features["lengths"], plain["lengths"])
    assert torch.equal(features["input_values"][1], plain["input_values"][1])
    changed = features["input_values"][0] != plain["input_values"][0]  # (W, T, mel)
    assert all(window.any() and not window.all() for window in changed)
    assert not torch.equal(changed[0], changed[1])
    assert (features["input_values"][0][changed] == encoder.silence).all()
    again = encoder.preprocess([short, MaskedSound(long, "a")])
    assert torch.equal(again["input_values"][1], features["input_values"][0])


@pytest.mark.parametrize("name", ["whisper", "wav2vec2", "clap"])
def test_encoders_without_such_a_spectrogram_say_so(tmp_path: Path, name: str) -> None:
    encoder = load_encoder(tiny_watchers.save(name, tmp_path / name))
    with pytest.raises(ConfigError, match=r"takes no spectrogram that could be masked \(data\.mask_sounds\)"):
        encoder.preprocess([MaskedSound(tiny_watchers.sound(0, 8000), "a")])
