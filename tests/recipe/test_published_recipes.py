"""Every recipe of published work, from the data set's official files to scores and predictions, on tiny backbones."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_media
import tiny_watchers
from data.published.published_layouts import fill
from PIL import Image

from epalm.data.published import get_dataset
from epalm.recipe import build_recipe, list_recipes, read_recipe
from epalm.recipe.overrides import split_settings
from epalm.training.conversion import LEGACY_TEXT
from epalm.training.schedule import rate_factors

PUBLISHED = [name for name in list_recipes() if not name.startswith("toy_")]
COLOURS = list(tiny.COLOURS.values())
METRIC = {"vqav2": "vqa_accuracy", "gqa": "exact_match", "msrvtt_qa": "exact_match", "msvd_qa": "exact_match"}
"""Captions: CIDEr."""


def pictures(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        Image.new("RGB", (20, 12), COLOURS[number % 4]).save(folder / name)


def clips(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        tiny_media.save_clip(folder / name, COLOURS[number % 4])


def vqav2(root: Path) -> None:
    for number, part in enumerate(("train", "val")):
        images = [10 * number + i for i in range(1, 4)]
        asked = [{"image_id": i, "question": "which?", "question_id": 100 * i} for i in images]
        answers = [
            {"question_id": 100 * i, "image_id": i, "answers": [{"answer": "red", "answer_id": a} for a in range(10)]}
            for i in images
        ]
        fill(
            root,
            {
                f"v2_OpenEnded_mscoco_{part}2014_questions.json": {"questions": asked},
                f"v2_mscoco_{part}2014_annotations.json": {"annotations": answers},
            },
        )
        pictures(root / f"{part}2014", [f"COCO_{part}2014_{i:012d}.jpg" for i in images])


def gqa(root: Path) -> None:
    for part in ("train", "testdev"):
        names = [f"{part[0]}{i}" for i in range(3)]
        asked = {f"0{name}": {"imageId": name, "question": "Which?", "answer": "red"} for name in names}
        fill(root, {f"{part}_balanced_questions.json": asked})
        pictures(root / "images", [f"{name}.jpg" for name in names])


def coco_captions(root: Path) -> None:
    images = [
        {
            "filename": f"COCO_val2014_{i:012d}.jpg",
            "filepath": "val2014",
            "split": split,
            "cocoid": i,
            "imgid": i,
            "sentences": [{"raw": "a red dog"}, {"raw": "a dog"}],
        }
        for i, split in enumerate(["train", "restval", "train", "test", "test"], start=1)
    ]
    fill(root, {"dataset_coco.json": {"images": images}})
    pictures(root / "val2014", [image["filename"] for image in images])


def msrvtt_captions(root: Path) -> None:
    splits = ["train", "train", "validate", "test"]
    content = {
        "videos": [{"video_id": f"video{n}", "split": split} for n, split in enumerate(splits)],
        "sentences": [{"sen_id": n, "video_id": f"video{n}", "caption": "it is red"} for n in range(4)],
    }
    fill(root, {"MSRVTT_data.json": content})
    clips(root / "videos" / "all", [f"video{n}.mp4" for n in range(4)])


def msrvtt_qa(root: Path) -> None:
    for first, part in ((0, "train"), (2, "test")):
        rows = [{"id": n, "video_id": n, "question": "who?", "answer": "man"} for n in range(first, first + 2)]
        fill(root, {f"{part}_qa.json": rows})
    clips(root / "videos", [f"video{n}.mp4" for n in range(4)])


def msvd_qa(root: Path) -> None:
    for first, part in ((1, "train"), (3, "test")):
        rows = [{"id": n, "video_id": n, "question": "who?", "answer": "cat"} for n in range(first, first + 2)]
        fill(root, {f"{part}_qa.json": rows})
    fill(root, {"youtube_mapping.txt": "".join(f"clip_{n}_9 vid{n}\n" for n in range(1, 5))})
    clips(root / "YouTubeClips", [f"clip_{n}_9.avi" for n in range(1, 5)])


def audiocaps(root: Path) -> None:
    for number, part in enumerate(("train", "test")):
        lines = [f"{10 * number + i},id{number}{i},{30 * i},A dog barks" for i in range(2)]
        fill(root, {f"{part}.csv": "\n".join(["audiocap_id,youtube_id,start_time,caption", *lines]) + "\n"})
        for i in range(2):
            tiny_media.save_sound(root / f"id{number}{i}_{30 * i}.wav", 300 + 50 * i)


FAKES: dict[str, Callable[[Path], None]] = {
    "vqav2": vqav2,
    "gqa": gqa,
    "coco_captions": coco_captions,
    "msrvtt_captions": msrvtt_captions,
    "msrvtt_qa": msrvtt_qa,
    "msvd_qa": msvd_qa,
    "audiocaps": audiocaps,
}


@pytest.fixture(scope="module")
def watchers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("watchers")
    return {
        kind: tiny_watchers.save(name, folder / name) for kind, name in (("video", "timesformer"), ("audio", "ast"))
    }


def overrides(name: str, backbones: Path, watchers: dict[str, Path]) -> list[str]:
    """The recipe's own settings, but for backbones, their window, and how long it takes."""
    modality = get_dataset(read_recipe(name).data.dataset).modality
    encoder = backbones / "vit" if modality == "image" else watchers[modality]
    settings = {
        "model.language_model": backbones / "opt",
        f"model.encoders.{modality}": encoder,
        "model.device": "cpu",
        "adapter.start": 0,
        "adapter.end": 2,
        "adapter.levels": 2,
        "training.steps": 2,
        "training.batch_size": 2,
        "generation.max_new_tokens": 4,
    }
    return [str(part) for key, value in settings.items() for part in (f"--{key}", value)]


@pytest.mark.parametrize("name", PUBLISHED)
def test_from_official_files_to_predictions(
    tmp_path: Path,
    backbones: Path,
    watchers: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    epalm: Callable[..., Any],
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = read_recipe(name)
    dataset = recipe.data.dataset
    FAKES[dataset](tmp_path / "root")
    holdout = ("--data.holdout", 0.5) if name == "gqa_base" else ()
    done = epalm(
        "train", "--recipe", name, "--data.root", "root", "--output", "adapter", "--json", "run.json",
        *overrides(name, backbones, watchers), *holdout,
    )  # fmt: skip
    assert done.code == 0, done.err
    result = json.loads(Path("run.json").read_text())
    assert ("choice" in result) == ("training files, held out" in done.out) == bool(holdout)
    (scores,) = result["validation"]["scores"].values()
    headline = METRIC.get(dataset, "cider")
    assert headline in scores
    reported = next(iter(recipe.published.scores))
    own = f"{scores[headline]:.2f}" if reported == headline else "not computed"
    assert f"published: {reported} {recipe.published.scores[reported]:.2f} (this run: {own})" in done.out
    assert f"{dataset} {recipe.data.validation_split}: " in done.out
    held = ("data", "rows", dataset, "root", "--split", recipe.data.validation_split, "--output", "held.jsonl")
    assert epalm(*held).code == 0
    done = epalm(
        "evaluate", "adapter", "--data", "held.jsonl", "--json", "s.json", "--predictions", "p.json",
        "--results", get_dataset(dataset).results, "--model.device", "cpu",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert json.loads(Path("s.json").read_text())["scores"] == result["validation"]["scores"]
    assert len(json.loads(Path("p.json").read_text())) == result["validation"]["rows"].popitem()[1]
    done = epalm(
        "evaluate", "adapter", "--data.dataset", dataset, "--data.root", "root",
        "--data.validation_split", recipe.data.validation_split, "--output", "again", "--model.device", "cpu",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.out.startswith(f"{dataset} {recipe.data.validation_split}: ")
    assert json.loads(Path("again/scores.json").read_text())["scores"] == result["validation"]["scores"]
    assert Path("again/predictions.jsonl").read_bytes() == Path("adapter/predictions.jsonl").read_bytes()
    assert json.loads(Path("again/settings.json").read_text())["data"]["files"]


def test_features_of_a_published_data_set_are_built_ahead(
    tmp_path: Path,
    backbones: Path,
    watchers: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    epalm: Callable[..., Any],
) -> None:
    monkeypatch.chdir(tmp_path)
    FAKES["gqa"](tmp_path / "root")
    done = epalm(
        "features", "build", "gqa_base", "--data.root", "root", "--data.store", "store", "--data.views", 1,
        "--data.augment", "none", "--json", "b.json",
        *overrides("gqa_base", backbones, watchers),
    )  # fmt: skip
    assert done.code == 0, done.err
    (store,) = json.loads(Path("b.json").read_text())["stores"]
    pictures = {path.read_bytes() for path in Path("root").rglob("*.jpg")}
    assert 0 < store["items"] <= len(pictures)


def test_every_recipe_is_listed(epalm: Callable[..., Any]) -> None:
    listing = epalm("recipes")
    lines = listing.out.splitlines()
    assert [line.split()[0] for line in lines] == list(list_recipes())
    assert {"vqav2_base", "coco_pt_L", "audiocaps", "coco_depalm", "toy_image"} <= set(list_recipes())
    assert all(len(line.split()) > 3 for line in lines)
    assert {name: sheet["what"] for name, sheet in json.loads(epalm("recipes", "--json").out).items()} == list_recipes()


def test_a_recipe_is_told_from_its_file(
    epalm: Callable[..., Any], refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.socket.connect", None)  # nobody is asked
    sheet = epalm("recipes", "coco_pt_L").out
    for part in (
        "facebook/opt-6.7b", "google/vit-large-patch16-224", "epalm_pt_L: 6 levels into layers 19 to 31",
        "coco_captions train", "coco_captions test", "connector 0.0001, 0.0002, 1e-05; prompt 0.0001, 0.001, 1e-05",
        "35 epochs, 16 rows a step", "3 beams", "cider 111.63", "bleu_4 33.35", "eP-ALM pt-L with OPT-6.7B",
    ):  # fmt: skip
        assert part in sheet
    all_of_them = json.loads(epalm("recipes", "--json").out)
    assert json.loads(epalm("recipes", "msrvtt_captions", "--json").out) == all_of_them["msrvtt_captions"]
    assert all_of_them["msrvtt_captions"]["frames"] == 16
    assert all_of_them["vqav2_base"]["rates"]["prompt"] == {"first": 1e-5, "peak": 1e-5, "last": 1e-6}
    assert all_of_them["audiocaps_depalm"]["metrics"] == ["spider"]
    assert "your own rows" in epalm("recipes", "toy_image").out
    assert "the package has none named 'coco_bas'; did you mean 'coco_base'?" in refused("recipes", "coco_bas")


def test_rates_are_those_of_the_papers() -> None:
    """Peak, prompt's peak, lowest, and where warm-up begins; epochs and global batch."""
    expected = {
        "vqav2_base": (2e-5, 1e-5, 1e-6, 1e-5, 8, 256),
        "gqa_base": (2e-5, 1e-5, 1e-6, 1e-5, 8, 256),
        "coco_base": (2e-5, 1e-5, 1e-6, 1e-5, 8, 64),
        "vqav2_pt_L": (2e-4, 1e-3, 1e-5, 1e-4, 35, 16),
        "coco_pt_L": (2e-4, 1e-3, 1e-5, 1e-4, 35, 16),
        "gqa_pt_L": (2e-4, 1e-3, 1e-5, 1e-4, 35, 64),
        "msrvtt_captions": (2e-5, 1e-5, 1e-6, 1e-5, 26, 64),
        "msrvtt_qa": (2e-5, 1e-5, 1e-6, 1e-5, 26, 32),
        "msvd_qa": (2e-5, 1e-5, 1e-6, 1e-5, 26, 32),
        "audiocaps": (2e-5, 1e-5, 1e-6, 1e-5, 30, 32),
        "vqav2_depalm": (1e-3, 1e-3, 1e-7, 1e-7, 8, 16),
        "coco_depalm": (1e-3, 1e-3, 1e-7, 1e-7, 8, 16),
        "msrvtt_depalm": (1e-3, 1e-3, 1e-7, 1e-7, 8, 16),
        "audiocaps_depalm": (1e-3, 1e-3, 1e-7, 1e-7, 12, 16),
    }
    assert set(expected) == set(PUBLISHED)
    for name, (peak, prompt, lowest, first, epochs, batch) in expected.items():
        training = read_recipe(name).training
        assert training.learning_rate == peak
        assert (training.prompt_learning_rate or training.learning_rate) == prompt
        assert training.final_rate * peak == pytest.approx(lowest)
        assert training.warmup_start * peak == pytest.approx(first)
        steps = 10**9
        for is_prompt, highest in ((False, peak), (True, prompt)):
            factor = rate_factors(training, steps, of_prompt=is_prompt)
            rates = [highest * factor(step) for step in (0, round(training.warmup * steps), steps)]
            assert rates == pytest.approx([first, highest, lowest], rel=1e-3)
        assert (training.epochs, training.batch_size) == (epochs, batch)


def test_what_training_sees_is_what_the_papers_say() -> None:
    """A new view at every visit: RandAugment of pictures, random frames of clips, SpecAugment of sounds; frames."""
    for name in PUBLISHED:
        recipe = read_recipe(name)
        data, (modality,) = recipe.data, recipe.model.encoders
        view_settings = data.views, data.store, data.augment, data.mask_sounds
        if name.endswith("_depalm"):
            assert view_settings == (1, None, "none", False)
        else:
            assert view_settings == (None, False, "strong" if modality == "image" else "none", modality == "audio")
        frames = {"msrvtt_captions": 16, "msrvtt_qa": 8, "msvd_qa": 8, "msrvtt_depalm": 8}
        assert recipe.model.frames == frames.get(name)
        window = recipe.adapter.start, recipe.adapter.end, recipe.adapter.levels
        assert (*window, recipe.generation.num_beams) == (19, 31, 6, 3)


def test_where_the_data_are_must_be_said(
    tmp_path: Path,
    backbones: Path,
    watchers: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    epalm: Callable[..., Any],
    refused: Callable[..., str],
) -> None:
    monkeypatch.chdir(tmp_path)
    call = ("train", "gqa_base", "--output", "adapter", *overrides("gqa_base", backbones, watchers))
    message = refused(*call)
    assert (
        "data.root: where GQA lies is not said; give --data.root DIR (annotations: https://cs.stanford.edu" in message
    )
    gqa(tmp_path / "root")
    next((tmp_path / "root" / "images").glob("t0.jpg")).unlink()
    message = refused(*call, "--data.root", "root")
    assert "1 of 3 image files missing, for 1 rows: t0.jpg" in message
    assert "put it there, or leave their rows out with --data.skip_missing true" in message
    there = (*call, "--data.root", "root", "--data.skip_missing", "true")
    done = epalm(*there)
    assert done.code == 0, done.err
    assert "1 of 3 image files missing, for 1 rows" in done.out
    assert "gqa has no split 'dev'" in refused(*there, "--data.validation_split", "dev")
    assert "unknown data set 'gqq'; did you mean 'gqa'?" in refused(*call, "--data.root", "r", "--data.dataset", "gqq")
    assert "no such directory" in refused(*call, "--data.root", "nowhere")
    message = refused(*there, "--data.train_split", "null")
    assert "data.train: no rows to train on; give --data.train_split SPLIT" in message
    plain = ("train", "--data.root", "root", "--output", "b")
    assert "root is of a published data set, and none is named" in refused(*plain)


def test_every_setting_that_restores_the_original_is_one() -> None:
    """As a shell reads it that it is pasted into."""
    page = (Path(__file__).parents[2] / "docs" / "original.md").read_text()
    restoring = [shlex.split(option) for option in re.findall(r"`(--[a-z_]+\.[a-z_]+ [^`]+)`", page)]
    assert len(restoring) >= 10
    overrides, rest = split_settings([part for option in restoring for part in option])
    assert rest == []
    overrides.pop("data.validation_split")  # of a data set
    assert overrides["text.answer_mark"] == LEGACY_TEXT["answer_mark"]
    restored, ours = build_recipe({}, overrides).model_dump(), build_recipe({}).model_dump()
    for name, value in overrides.items():
        group, _, field = name.partition(".")
        assert restored[group][field] == value
        assert restored[group][field] != ours[group][field]
    assert "<" not in re.sub(r'"[^"]*"', "", " ".join(re.findall(r"`(--[^`]+)`", page)))


def test_rows_to_score_must_be_named_once(place: Path, refused: Callable[..., str]) -> None:
    call = ("evaluate", "adapter")
    assert "data: no rows to score; give --data ROWS.jsonl, or --data.dataset NAME" in refused(*call)
    dataset = ("--data.dataset", "gqa")
    assert "data: no rows to score; give --data.validation_split SPLIT" in refused(*call, *dataset)
    split = (*dataset, "--data.validation_split", "testdev")
    assert "data.root: where GQA lies is not said" in refused(*call, *split)
    assert "gqa has no split 'x'" in refused(*call, *dataset, "--data.root", ".", "--data.validation_split", "x")
    both = refused(*call, *split, "--data", "questions.jsonl")
    assert "--data.dataset: --data says which rows to score; leave one of them out" in both


def test_a_manifest_takes_the_place_of_a_split(
    place: Path, backbones: Path, watchers: dict[str, Path], epalm: Callable[..., Any]
) -> None:
    done = epalm(
        "train", "gqa_base", "--data.train", "questions.jsonl", "--data.validation", "questions.jsonl",
        "--output", "adapter", *overrides("gqa_base", backbones, watchers),
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "question_answering (4 rows)" in done.out
