"""Data sets as the plan has them, but tiny: plain pictures, and tones that stand for digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny

DIGITS = ("zero", "one", "two", "three")
SPEAKERS = ("george", "jackson", "lucas", "theo")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    soundfile = pytest.importorskip("soundfile")
    folder = tmp_path_factory.mktemp("data")
    colours = list(tiny.COLOURS)
    for number, name in enumerate(("flickr8k-mini", "flickr8k-more")):
        tiny.save_pictures(folder / name / "images")
        for split, own in (("train", colours[:3]), ("val", colours[3:])):
            rows = []
            for colour in own:
                (folder / name / "images" / f"{colour}.png").rename(folder / name / "images" / f"{colour}{number}.png")
                captions = [f"{colour} paper .", f"all {colour} ."]
                rows.append({"image": f"images/{colour}{number}.png", "captions": captions})
            tiny.write_lines(folder / name / f"{split}.jsonl", rows)
    sounds = folder / "spoken-digits" / "audio"
    sounds.mkdir(parents=True)
    time = np.arange(2400) / 8000
    for split, takes in (("train", range(4)), ("val", range(4, 5))):
        rows = []
        for digit, answer in enumerate(DIGITS):
            for number, speaker in enumerate(SPEAKERS):
                for take in takes:
                    pitch = 300 * (digit + 1) + 15 * number + 3 * take
                    path = sounds / f"{digit}_{speaker}_{take}.wav"
                    soundfile.write(path, 0.3 * np.sin(2 * np.pi * pitch * time), 8000)
                    rows.append({"audio": f"audio/{path.name}", "question": "which number is said?", "answer": answer})
        tiny.write_lines(folder / "spoken-digits" / f"{split}.jsonl", rows)
    return folder
