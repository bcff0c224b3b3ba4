"""Real trainings from files to scores, quick: on tiny backbones, and on pretrained ones where there are some."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
import tiny_watchers

from benchmarks.real.__main__ import main
from benchmarks.real.plan import LANGUAGE_MODEL
from epalm.data.manifest import read_manifest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tiny_backbones(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbones")
    tiny.save_language_model(folder / LANGUAGE_MODEL, "llama")
    tiny_watchers.save("whisper", folder / "whisper-tiny-en")
    return folder


@pytest.fixture(scope="module")
def features(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    for name in ("flickr8k-mini", "flickr8k-more"):
        for split in ("train", "val"):
            ids = [row.media["image"].name for row in read_manifest(data / name / f"{split}.jsonl")]
            values = np.random.default_rng(len(ids)).normal(size=(len(ids), 1, 8)).astype(np.float32)
            np.savez(folder / f"{name}-{split}.npz", ids=np.array(ids), features=values)
    return folder


@pytest.fixture
def make_real(monkeypatch, capfd):
    monkeypatch.chdir(ROOT)

    def call(*arguments):
        capfd.readouterr()
        code = main(["--quick", *map(str, arguments)])
        return code, capfd.readouterr().err

    return call


@pytest.mark.slow
def test_captions_and_answers_from_files_to_scores(make_real, tiny_backbones, data, features, tmp_path):
    call = ("--backbones", tiny_backbones, "--data", data, "--features", features, "--output", tmp_path)
    call += ("--only", "photographs digits-without-theo")
    code, said = make_real(*call)
    assert code == 0, said
    captions = json.loads((tmp_path / "photographs" / "result.json").read_text())
    assert (captions["rows"], captions["held_out"], captions["steps"]) == (6, 2, 4)
    for score in ("score", "shuffled", "blind", "fixed", "features_alone"):
        assert captions[score]["low"] <= captions[score]["value"] <= captions[score]["high"]
    assert captions["fixed_sentence"] in ("white paper .", "all white .", *(f"{c} paper ." for c in tiny.COLOURS),
                                          *(f"all {c} ." for c in tiny.COLOURS))  # fmt: skip
    assert (tmp_path / "photographs" / "contact_sheet.png").stat().st_size > 1000
    answers = json.loads((tmp_path / "digits-without-theo" / "result.json").read_text())
    assert (answers["rows"], answers["held_out"], answers["blind"]) == (20, 8, None)
    assert list(answers["groups"]["speaker"]) == ["theo"]
    assert answers["features_alone"]["value"] >= 75  # tones are told apart even by random weights
    assert answers["perception"]["loss"].keys() == {"right", "shuffled", "none"}
    assert 0 < answers["trained_share"] < 1
    assert answers["training"]["cpu_seconds"] > 0

    shutil.rmtree(tmp_path / "photographs" / "scores")
    (tmp_path / "photographs" / "result.json").unlink()
    code, said = make_real(*call)
    assert code == 0, said
    (command,) = (line for line in said.splitlines() if line.startswith("$ "))
    assert command.startswith("$ epalm evaluate ")


def test_what_is_missing_is_said_in_one_line_before_any_work(make_real, tiny_backbones, data, tmp_path):
    call = ("--data", data, "--output", tmp_path / "out", "--only")
    code, said = make_real("--backbones", tmp_path, *call, "digits-30-seed0")
    assert code == 2
    assert f"real: BACKBONES: there is no {tmp_path / LANGUAGE_MODEL} with a model; docs/real.md says" in said
    code, said = make_real("--backbones", tiny_backbones, *call, "photographs")
    assert code == 2
    assert "real: photographs: it takes ready features; give FEATURES=DIR or FEATURE_TOOL=COMMAND" in said
    assert "$ " not in said


@pytest.mark.real
@pytest.mark.slow
def test_a_quick_run_on_real_backbones(make_real, real_backbones, data, tmp_path):
    call = ("--backbones", real_backbones, "--data", data, "--output", tmp_path, "--only", "digits-30-seed0")
    code, said = make_real(*call)
    assert code == 0, said
    result = json.loads((tmp_path / "digits-30-seed0" / "result.json").read_text())
    assert result["trained_share"] < 0.01
    assert result["perception"]["loss"]["right"] > 0
