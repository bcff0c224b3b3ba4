"""How clips and sounds are read: settings of the model, kept with the adapter and changeable on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_watchers
import yaml

from epalm.errors import ConfigError
from epalm.evaluation import Answerer
from epalm.models import PerceptualLM
from epalm.settings import AdapterConfig

av = pytest.importorskip("av", reason="PyAV is not installed")
soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")


@pytest.fixture
def world(tmp_path: Path, backbones: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clip whose picture changes, a sound of three windows that do not sound alike, and their encoders."""
    monkeypatch.chdir(tmp_path)
    with av.open("clip.mp4", "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 48, 40, "yuv420p"
        for i in range(16):
            picture = np.full((40, 48, 3), (16 * i, 255 - 16 * i, 90), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    soundfile.write("sound.wav", tiny_watchers.sound(1, 3 * 10_480), tiny_watchers.RATE)
    for name in ("timesformer", "ast", "vivit"):
        tiny_watchers.save(name, Path(name))
    tiny.write_lines(Path("video.jsonl"), [{"video": "clip.mp4", "caption": "it fades"}])
    tiny.write_lines(Path("audio.jsonl"), [{"audio": "sound.wav", "caption": "a hum"}])
    return tmp_path


def write_recipe(backbones: Path, encoders: dict[str, str], **model: Any) -> None:
    values = tiny.recipe_values(backbones)
    values["model"] |= {"encoders": encoders} | model
    Path("recipe.yaml").write_text(yaml.safe_dump(values))


def trained(epalm: Callable[..., Any], modality: str) -> dict[str, Any]:
    done = epalm("train", "recipe.yaml", "--data.train", f"{modality}.jsonl", "--output", "adapter")
    assert done.code == 0, done.err
    return json.loads(Path("adapter/adapter_config.json").read_text())


def encoder_of(overrides: dict[str, Any] | None, modality: str) -> Any:
    return Answerer.load("adapter", overrides).model.encoders[modality]


@pytest.mark.parametrize("encoder", ["timesformer", "vit"])
def test_frames_are_kept_and_can_be_changed(world: Path, backbones: Path, epalm: Any, encoder: str) -> None:
    place = str(backbones / "vit") if encoder == "vit" else encoder
    write_recipe(backbones, {"video": place}, frames=3)
    card = trained(epalm, "video")
    assert card["encoders"]["video"]["frames"] == 3
    assert "frames" not in card["metadata"]["model"]
    assert encoder_of(None, "video").reading == {"frames": 3}
    assert PerceptualLM.from_pretrained("adapter").encoders["video"].reading == {"frames": 3}
    assert encoder_of({"model.frames": 5}, "video").reading == {"frames": 5}
    assert "frames of a clip 3" in epalm("info", "adapter").out
    for frames in (1, 5):
        done = epalm("evaluate", "adapter", "--data", "video.jsonl", "--model.frames", frames)
        assert done.code == 0, done.err


def test_the_encoders_own_number_is_written_out(world: Path, backbones: Path, epalm: Any) -> None:
    write_recipe(backbones, {"video": "timesformer"})
    assert trained(epalm, "video")["encoders"]["video"]["frames"] == tiny_watchers.FRAMES


def test_long_sounds_are_kept_and_can_be_changed(world: Path, backbones: Path, epalm: Any) -> None:
    write_recipe(backbones, {"audio": "ast"}, long_sounds="windows")
    card = trained(epalm, "audio")
    assert card["encoders"]["audio"]["long_sounds"] == "windows"
    assert encoder_of(None, "audio").long_sounds == "windows"
    assert encoder_of({"model.long_sounds": "first"}, "audio").long_sounds == "first"
    write_recipe(backbones, {"audio": "ast"})
    assert trained(epalm, "audio")["encoders"]["audio"]["long_sounds"] == "first"
    assert encoder_of(None, "audio").long_sounds == "first"


def test_settings_without_an_encoder_to_go_to(world: Path, backbones: Path, refused: Any, epalm: Any) -> None:
    write_recipe(backbones, {"audio": "ast"}, frames=3)
    train = ("train", "recipe.yaml", "--data.train", "audio.jsonl", "--output", "adapter")
    assert "frames: nothing here perceives video" in refused(*train)
    write_recipe(backbones, {"audio": "ast"})
    assert epalm(*train).code == 0
    assert "frames: nothing here perceives video" in refused("ask", "adapter", "sound.wav", "?q", "--model.frames", 2)
    write_recipe(backbones, {"video": "vivit"}, frames=3)
    train = ("train", "recipe.yaml", "--data.train", "video.jsonl", "--output", "other")
    assert "vivit takes 4 frames and no other number, 3 were asked for" in refused(*train)
    assert "frames: nothing here perceives video" in refused("info", "recipe.yaml", "--model.encoders", "{audio: ast}")


def test_several_encoders_each_take_their_own(world: Path, backbones: Path) -> None:
    sources = {"video": "timesformer", "audio": "ast", "image": str(backbones / "vit")}
    config = {"start": 0, "end": 2, "levels": 1}
    model = PerceptualLM.build(
        backbones / "opt", sources, AdapterConfig.from_preset(**config), frames=2, long_sounds="windows"
    )
    assert model.encoders["video"].frames == 2
    assert model.encoders["audio"].long_sounds == "windows"
    model.save_pretrained("several")
    again = PerceptualLM.from_pretrained("several", frames=6)
    assert (again.encoders["video"].frames, again.encoders["audio"].long_sounds) == (6, "windows")
    with pytest.raises(ConfigError, match="long_sounds: nothing here perceives audio"):
        PerceptualLM.build(backbones / "opt", {"video": "timesformer"}, long_sounds="first")
