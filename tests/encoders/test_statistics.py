"""By whose mean and spread pixels are normalised: the encoder's own, or CLIP's; kept with the adapter."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_watchers
import torch

from epalm.encoders import load_encoder
from epalm.errors import ConfigError
from epalm.evaluation import Answerer

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])


@pytest.mark.parametrize("modality", ["image", "video"])
def test_clip_takes_the_place_of_the_encoders_own(backbones: Path, modality: str) -> None:
    picture = np.full((tiny.SIDE, tiny.SIDE, 3), (10, 100, 250), dtype=np.uint8)
    media = picture if modality == "image" else np.stack([picture] * 2)
    frames = {} if modality == "image" else {"frames": 2}
    own, unset, clip = (
        load_encoder(backbones / "vit", modality=modality, statistics=which, **frames)
        for which in ("own", None, "clip")
    )
    pixels = clip.preprocess([media])["pixel_values"]
    expected = (torch.tensor([10.0, 100.0, 250.0]) / 255 - MEAN) / STD
    torch.testing.assert_close(pixels.flatten(-2)[..., 0].reshape(-1, 3)[0], expected)
    assert torch.equal(own.preprocess([media])["pixel_values"], unset.preprocess([media])["pixel_values"])
    assert not torch.allclose(own.preprocess([media])["pixel_values"], pixels)


def test_a_clip_encoder_has_them_too(tmp_path: Path) -> None:
    tiny_watchers.save("timesformer", tmp_path / "timesformer")
    encoder = load_encoder(tmp_path / "timesformer", statistics="clip")
    grey = np.full((encoder.frames, 24, 24, 3), 128, dtype=np.uint8)
    torch.testing.assert_close(encoder.preprocess([grey])["pixel_values"][0, 0, :, 0, 0], (128 / 255 - MEAN) / STD)


def test_sounds_and_encoders_without_a_processor_have_none(tmp_path: Path, backbones: Path) -> None:
    tiny_watchers.save("ast", tmp_path / "ast")
    with pytest.raises(ConfigError, match="perceives audio; only pixels"):
        load_encoder(tmp_path / "ast", statistics="clip")
    live = load_encoder(backbones / "vit").backbone
    with pytest.raises(ConfigError, match="has no image processor"):
        load_encoder(live, statistics="clip")


def test_they_are_kept_with_the_adapter(place: Path, epalm: Callable[..., Any], refused: Callable[..., str]) -> None:
    rows = ("--data.train", "captions.jsonl")
    assert epalm("train", "recipe.yaml", *rows, "--output", "own").code == 0
    assert epalm("train", "recipe.yaml", *rows, "--output", "clip", "--model.statistics", "clip").code == 0
    card = json.loads(Path("clip/adapter_config.json").read_text())
    assert card["encoders"]["image"]["statistics"] == "clip"
    assert "statistics" not in card["metadata"]["model"]
    assert json.loads(Path("own/adapter_config.json").read_text())["encoders"]["image"]["statistics"] is None
    assert "pixels by        clip's statistics" in epalm("info", "clip").out
    for overrides, mean in (({}, MEAN.tolist()), ({"model.statistics": "own"}, [0.5] * 3)):
        processor = Answerer.load("clip", overrides).model.encoders["image"].processor
        assert list(processor.image_mean) == pytest.approx(mean)
