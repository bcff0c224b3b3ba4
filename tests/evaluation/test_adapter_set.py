"""Several adapters at once: one language model, and from each the answers that it gives alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_media
import tiny_watchers
import torch

from epalm.data.rows import Row
from epalm.errors import AdapterError, ConfigError, DataError
from epalm.evaluation import AdapterSet, Answerer
from epalm.models.adapter_io import read_adapter, write_adapter
from epalm.recipe import build_recipe
from epalm.training import run_recipe

LOUDER = {"connector": 5, "block_adapters": 50, "prompt": 1}
"""By how much what was trained is made to matter more."""
QUESTIONS = ("which?", "what is it, then?", "a")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory, backbones: Path) -> Path:
    """Adapters that differ in all that is an adapter's own, `image`, `image-2`, `audio` and `blind`, and files."""
    folder = tmp_path_factory.mktemp("shelf")
    tiny.save_pictures(folder / "pictures")
    for pitch in (200, 700, 1800, 4000):
        tiny_media.save_sound(folder / f"{pitch}.wav", pitch)
    tiny_watchers.save("ast", folder / "ast")
    tiny.write_lines(folder / "images.jsonl", tiny.questions())
    rows = [{"audio": f"{pitch}.wav", "question": "which?", "answer": str(pitch)} for pitch in (200, 700, 1800, 4000)]
    tiny.write_lines(folder / "sounds.jsonl", rows)
    ada = {"adapter.preset": "epalm_ada", "adapter.bottleneck": 2}
    audio = {
        "model.encoders": {"audio": str(folder / "ast")},
        "data.train": folder / "sounds.jsonl",
        "adapter.preset": "epalm",
        "adapter.start": 1,
        "adapter.end": 3,
        "adapter.mask": "legacy",
        "text.answer_mark": " so",
        "text.caption_cue": "heard",
        "generation.max_new_tokens": 9,
        "generation.num_beams": 3,
    }
    kinds: dict[str, dict[str, Any]] = {
        "image": ada,
        "image-2": {"training.seed": 1},
        "audio": audio,
        "blind": {"adapter.preset": "text_only"},
    }
    for name, settings in kinds.items():
        changes = {"data.train": folder / "images.jsonl", "output": folder / name, **settings}
        run_recipe(build_recipe(tiny.recipe_values(backbones, steps=1, learning_rate=1e-4), changes))
        saved = read_adapter(folder / name)
        louder = {key: LOUDER[key.partition(".")[0]] * tensor for key, tensor in saved.tensors.items()}
        write_adapter(folder / name, saved.card, louder)
    return folder


@pytest.fixture
def rows(shelf: Path) -> list[Row]:
    """Pictures and sounds, asked about and captioned, in turns."""
    pictures = [{"image": shelf / "pictures" / f"{name}.png"} for name in tiny.COLOURS]
    sounds = [{"audio": path} for path in sorted(shelf.glob("*.wav"))]
    media = [each for pair in zip(pictures, sounds, strict=True) for each in pair]
    return [Row(each, question) for question in (*QUESTIONS, None) for each in media]


def alone(shelf: Path, rows: list[Row]) -> list[str]:
    """What each row's own adapter says, loaded by itself."""
    answerers = {name: Answerer.load(shelf / name) for name in ("image", "audio")}
    return [answerers[next(iter(row.media))].answer([row])[0] for row in rows]


def test_each_answers_as_if_it_were_alone(shelf: Path, rows: list[Row]) -> None:
    both = AdapterSet.load([shelf / "image", shelf / "audio"])
    told: list[tuple[str, int, int]] = []
    answers = both.answer(rows, lambda *news: told.append(news))
    assert answers == alone(shelf, rows)
    assert {what for what, _, _ in told} == {"perceiving image", "perceiving audio", "answering"}
    for name in ("image", "audio"):
        assert len({answer for row, answer in zip(rows, answers, strict=True) if name in row.media}) >= 3
    assert both.answer(rows[::-1]) == answers[::-1]
    assert [both.answer([row])[0] for row in rows] == answers
    for row, answer in zip(rows, answers, strict=True):
        (file,) = row.media.values()
        assert (both.ask(file, row.question) if row.question else both.caption(file)[0]) == answer


@torch.no_grad()
def test_features_meet_the_same_logits(shelf: Path) -> None:
    """To the bit, before and after the others were used."""
    both = AdapterSet.load([shelf / "image", shelf / "audio"])
    ids = torch.arange(12).reshape(2, 6)
    for _ in range(2):
        for name, member in both.members.items():
            single = Answerer.load(name).model
            given = {
                modality: torch.randn(2, levels, single.perception.widths[modality])
                for modality, levels in single.levels.items()
            }
            assert torch.equal(member.model(ids, features=given).logits, single(ids, features=given).logits)


def test_the_language_model_is_in_memory_once(shelf: Path) -> None:
    image, audio = (each.model for each in AdapterSet.load([shelf / "image", shelf / "audio"]).members.values())
    assert image.language_model is audio.language_model
    places = [{p.data_ptr() for p in model.language_model.parameters()} for model in (image, audio)]
    assert places[0] == places[1]
    assert image.tokenizer is audio.tokenizer


def test_one_can_be_swapped_without_loading_the_language_model(shelf: Path, rows: list[Row]) -> None:
    first = Answerer.load(shelf / "image")
    second = Answerer.load(shelf / "image-2", language_model=first.model)
    assert second.model.language_model is first.model.language_model
    pictures = [row for row in rows if "image" in row.media]
    before, swapped = first.answer(pictures), second.answer(pictures)
    assert before != swapped == Answerer.load(shelf / "image-2").answer(pictures)
    assert first.answer(pictures) == before
    with pytest.raises(ConfigError, match=r"model\.language_model: the one of another model is shared"):
        Answerer.load(shelf / "image", {"model.language_model": "elsewhere"}, language_model=first.model)


def test_settings_go_to_those_they_concern(shelf: Path, backbones: Path) -> None:
    shutil.copytree(shelf / "ast", shelf / "moved", dirs_exist_ok=True)
    where = {"image": str(backbones / "vit"), "audio": os.path.relpath(shelf / "moved")}
    for overrides in (
        {"model.encoders": where, "generation.num_beams": 2, "model.long_sounds": "windows"},
        {"model.encoders.audio": where["audio"], "generation.num_beams": 2, "model.long_sounds": "windows"},
        {"model.language_model": str(backbones / "opt"), "model.torch_dtype": "bfloat16"},
    ):
        both = AdapterSet.load([shelf / "image", shelf / "audio"], overrides)
        image, audio = both.members.values()
        assert image.generation.num_beams == overrides.get("generation.num_beams", 1)
        assert audio.generation.num_beams == overrides.get("generation.num_beams", 3)
        assert image.model.encoders["image"].source == str(backbones / "vit")
        moved = any(name.startswith("model.encoders") for name in overrides)
        assert audio.model.encoders["audio"].source == str(shelf / ("moved" if moved else "ast"))
    with pytest.raises(ConfigError, match=r"--model\.frames: none of the adapters perceives video; leave it out"):
        AdapterSet.load([shelf / "image", shelf / "audio"], {"model.frames": 4})
    with pytest.raises(ConfigError, match=r"--training\.steps: has no effect"):
        AdapterSet.load([shelf / "image", shelf / "audio"], {"training.steps": 4})


def test_adapters_that_do_not_go_together(shelf: Path, backbones: Path, tmp_path: Path) -> None:
    def refusal(*names: str | Path) -> str:
        with pytest.raises(AdapterError) as caught:
            AdapterSet.load([shelf / name for name in names])
        assert "\n" not in str(caught.value)
        return str(caught.value)

    image, audio = shelf / "image", shelf / "audio"
    assert refusal("image", "audio", "image-2") == f"{shelf}/image-2: perceives image, as {image} does; leave one " \
        "of them out"  # fmt: skip
    assert "perceives image, as" in refusal("image", "image")
    assert f"{shelf}/blind: perceives nothing" in refusal("image", "blind")
    assert "there are none" in refusal()

    other = {"data.train": shelf / "images.jsonl", "output": tmp_path / "other"}
    tiny.save_language_model(tmp_path / "stranger", seed=9)
    run_recipe(
        build_recipe(tiny.recipe_values(backbones), {"model.language_model": str(tmp_path / "stranger"), **other})
    )
    assert refusal("audio", tmp_path / "other") == (
        f"{tmp_path}/other: was trained on another language model than {audio} (their weights differ); use it alone"
    )
    run_recipe(build_recipe(tiny.recipe_values(backbones, "llama"), other))
    assert "(family llama, not opt); use it alone" in refusal("audio", tmp_path / "other")
    run_recipe(build_recipe(tiny.recipe_values(backbones), {"model.torch_dtype": "bfloat16", **other}))
    assert "was trained with model.torch_dtype bfloat16, " in refusal("audio", tmp_path / "other")
    assert AdapterSet.load([audio, tmp_path / "other"], {"model.torch_dtype": "float32"}).modalities

    apart = {name: Answerer.load(shelf / name) for name in ("image", "audio")}
    with pytest.raises(AdapterError, match="audio: has a language model of its own; load it with language_model="):
        AdapterSet(apart)


def test_rows_that_belong_to_nobody_or_to_several(shelf: Path) -> None:
    both = AdapterSet.load([shelf / "image", shelf / "audio"])
    picture, sound = shelf / "pictures" / "red.png", shelf / "200.wav"
    with pytest.raises(
        DataError, match=r"rows, row 3: brings image and audio, which .*image and .*audio perceive separately"
    ):
        both.answer([Row({"image": picture, "audio": sound}, "which?", number=3)], where="rows")
    with pytest.raises(DataError, match="brings video, but the model perceives audio, image"):
        both.answer([Row({"video": Path("a.mp4")}, "which?")])
    with pytest.raises(DataError, match="its text is 65 tokens long"):
        both.answer([Row({"image": picture}, "q" * 64)])
    with pytest.raises(DataError, match="cannot tell whether it is image or audio"):
        both.ask("no-name", "which?")
