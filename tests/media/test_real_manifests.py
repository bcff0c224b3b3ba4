"""Recordings and clips made by others decode completely, every one that a manifest names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from epalm.data.manifest import read_manifest
from epalm.media import load_media

pytest.importorskip("av", reason="PyAV is not installed")
pytest.importorskip("soundfile", reason="soundfile is not installed")
pytest.importorskip("soxr", reason="soxr is not installed")

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
RATE = 16_000


def rows(manifest: str):
    if not (SHARED / manifest).exists():
        pytest.skip(f"{manifest} is not here")
    return read_manifest(SHARED / manifest)


def sounds_right(sound: np.ndarray, shortest: float, longest: float) -> None:
    assert sound.dtype == np.float32
    assert shortest <= len(sound) / RATE <= longest
    assert np.isfinite(sound).all()
    assert 0.001 < np.abs(sound).max() < 2


@pytest.mark.slow
@pytest.mark.parametrize(("part", "count"), [("train", 80), ("val", 80)])
def test_environmental_sounds(part, count):
    files = {row.media["audio"] for row in rows(f"esc10-mini/{part}.jsonl")}
    assert len(files) == count
    for path in files:
        sounds_right(load_media("audio", path, rate=RATE), 3.5, 7.3)


def test_recordings():
    files = {row.media["audio"] for row in rows("audiocaps-mini/audio.jsonl")}
    assert len(files) == 4
    for path in files:
        sounds_right(load_media("audio", path, rate=RATE), 9, 10.5)


@pytest.mark.slow
def test_clips_with_sound():
    files = {row.media["video"] for row in rows("audiocaps-mini/video.jsonl")}
    assert len(files) == 4
    for path in files:
        frames = load_media("video", path, frames=8)
        assert frames.shape[0] == 8
        assert frames.std(axis=(1, 2, 3)).min() > 5
        sounds_right(load_media("audio", path, rate=RATE), 5.5, 10.5)
