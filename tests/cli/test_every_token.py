"""Whole runs of adapters that read every token of sounds, of which each has as many as it is long."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_watchers
import torch
import yaml
from safetensors.torch import load_file

soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")

LENGTHS = {"a": 9000, "b": 1700, "c": 403, "d": 5000}
TRAIN = ("train", "recipe.yaml", "--data.train", "rows.jsonl", "--output")
FILES = ("adapter_model.safetensors", "adapter_config.json")


@pytest.fixture
def sounds(tmp_path: Path, backbones: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed, (name, samples) in enumerate(LENGTHS.items()):
        sound = tiny_watchers.sound(seed, samples)
        soundfile.write(f"{name}.wav", sound, tiny_watchers.RATE, subtype="FLOAT")
    tiny_watchers.save("whisper", Path("encoder"))
    tiny.write_lines(
        Path("rows.jsonl"), [{"audio": f"{name}.wav", "question": "which?", "answer": name} for name in LENGTHS]
    )
    values = tiny.recipe_values(backbones, feature_dropout=0.2)
    values["model"]["encoders"] = {"audio": "encoder"}
    values["adapter"] = {"preset": "deepstack", "levels": 2}
    Path("recipe.yaml").write_text(yaml.safe_dump(values))
    return tmp_path


def test_what_is_built_ahead_is_what_training_and_scoring_read(sounds: Path, epalm: Callable[..., Any]) -> None:
    done = epalm("features", "build", "recipe.yaml", "--data.train", "rows.jsonl", "--data.store", "store")
    assert done.code == 0, done.err
    assert "items      4 of (2, N, 24) with N from 2 to 29, float32" in done.out
    (store,) = Path("store").iterdir()
    for name, options in (
        ("stored", ("--data.store", "store")),
        ("anew", ("--no-store",)),
        ("parts", ("--data.store", "store", "--training.accumulation", 2)),
    ):
        done = epalm(*TRAIN, name, *options)
        assert done.code == 0, done.err
        assert "perceiving" not in done.err
    assert all(Path("stored", file).read_bytes() == Path("anew", file).read_bytes() for file in FILES)
    whole, parts = (load_file(Path(name, FILES[0])) for name in ("stored", "parts"))  # padded and dropped out alike
    assert all(torch.allclose(parts[name], tensor, rtol=1e-3, atol=1e-5) for name, tensor in whole.items())
    score = ("evaluate", "stored", "--data", "rows.jsonl", "--generation.batch_size", 3, "--predictions")
    assert epalm(*score, "files.jsonl").code == 0
    assert epalm(*score, "ready.jsonl", "--data.features.audio", store).code == 0
    assert Path("files.jsonl").read_text() == Path("ready.jsonl").read_text()
