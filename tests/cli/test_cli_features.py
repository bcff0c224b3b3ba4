"""`epalm features`: built ahead by one process or several, killed and gone on, looked into, and used by training."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from safetensors.torch import save_file

from epalm.data.store import FeatureStore

Command = Callable[..., Any]
Refused = Callable[..., str]

ROOT = Path(__file__).parents[2]
BUILD = ("features", "build", "recipe.yaml", "--data.train", "many.jsonl", "--data.store", "store")
TRAIN = ("train", "recipe.yaml", "--data.train", "questions.jsonl", "--output")
MANY, PER_SHARD = 1500, 64
"""Pictures, which are 24 shards."""


@pytest.fixture
def many(place: Path) -> Path:
    """Many small pictures, all different, of which one is no picture."""
    (place / "many").mkdir()
    rows = []
    for number in range(MANY):
        Image.new("RGB", (3, 2), (number % 256, number // 256, 77)).save(f"many/{number}.bmp")
        rows.append({"image": f"many/{number}.bmp", "caption": "a"})
    Path("many/700.bmp").write_bytes(b"BM")
    return tiny.write_lines(Path("many.jsonl"), rows)


def started(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    code = "from epalm.cli import main; main()"
    known = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env=known, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def together(*arguments: str, processes: int = 2) -> list[tuple[int, str, str]]:
    """What each of several processes, launched as torchrun does it, leaves behind: code, output, errors."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = [started(*arguments, **shared, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(processes)]
    ended = [rank.communicate(timeout=300) for rank in ranks]
    return [(rank.returncode, out, err) for rank, (out, err) in zip(ranks, ended, strict=True)]


def shards(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).glob("*/*.safetensors"))}


def everything(folder: str) -> dict[str, bytes]:
    found = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.slow
def test_two_processes_make_the_same_store_as_one(many: Path, epalm: Command) -> None:
    skip = ("--data.on_bad_media", "skip")
    assert epalm(*BUILD, *skip).code == 0
    two = ("--data.store", "two", "--json", "two.json")
    (code, out, err), (other_code, other_out, other_err) = together(*BUILD[:-2], *two, *skip)
    assert (code, other_code) == (0, 0), err + other_err
    assert len(shards("store")) == -(-MANY // PER_SHARD)
    assert everything("store") == everything("two")
    assert f"items      {MANY - 1:,} of (2, 16)" in out
    assert f"perceiving image ({MANY}/{MANY})" in err
    assert (other_out, "perceiving" in other_err) == ("", False)
    result = json.loads(Path("two.json").read_text())
    assert result["skipped"]["files"][0]["file"] == "many/700.bmp"
    assert result["stores"][0]["items"] == MANY - 1


@pytest.mark.slow
def test_all_processes_leave_when_one_meets_a_file_that_cannot_be_read(place: Path) -> None:
    Path("pictures/blue.png").write_bytes(b"no picture")
    for code, _, err in together("features", "build", "recipe.yaml", "--data.train", "questions.jsonl"):
        assert code == 2
        assert err.splitlines()[-1].startswith("epalm: pictures/blue.png: not a picture")


@pytest.mark.slow
def test_a_builder_that_is_killed_loses_no_finished_shard(many: Path, epalm: Command) -> None:
    skip = ("--data.on_bad_media", "skip", "--data.perception_batch", "4")
    assert epalm(*BUILD, *skip).code == 0
    killed = started(*BUILD[:-2], "--data.store", "killed", *skip)
    while not (finished := list(Path("killed").glob("*/*.safetensors"))) and killed.poll() is None:
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    finished = list(Path("killed").glob("*/*.safetensors"))
    assert 1 <= len(finished) < MANY // PER_SHARD, "killed too late"
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in finished}
    done = epalm(*BUILD[:-2], "--data.store", "killed", *skip)
    assert done.code == 0, done.err
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in finished} == before
    assert shards("killed") == shards("store")
    total = int(done.err.splitlines()[-1].rpartition("/")[2].rstrip(")"))
    assert total <= MANY - PER_SHARD * len(finished) + 1  # what was finished is not perceived again


def test_training_builds_what_it_needs_and_uses_what_is_there(place: Path, epalm: Command) -> None:
    first = epalm(*TRAIN, "first", "--data.validation", "captions.jsonl")
    assert first.code == 0, first.err
    assert "perceiving image (4/4)" in first.err
    for name, options in (("again", ()), ("fly", ("--no-store",)), ("elsewhere", ("--data.store", "here"))):
        done = epalm(*TRAIN, name, "--data.validation", "captions.jsonl", *options)
        assert done.code == 0, done.err
        assert ("perceiving" in done.err) == (name == "elsewhere")
        for file in ("adapter_model.safetensors", "adapter_config.json"):
            assert Path(name, file).read_bytes() == Path("first", file).read_bytes()
    assert len(shards("here")) == 1
    done = epalm("features", "info")
    assert done.code == 0
    assert "items      4 of (2, 16), float32, known by content" in done.out
    (facts,) = json.loads(epalm("features", "info", "here", "--json").out)
    assert facts["facts"]["device"] == "cpu"
    assert facts["made_by"].endswith("vit")
    (card,) = json.loads(Path("first/adapter_config.json").read_text())["encoders"].values()
    assert facts["fingerprint"] == card["fingerprint"]


def test_what_is_built_ahead_is_what_training_wants(place: Path, epalm: Command) -> None:
    for settings in ((), ("--data.views", 2, "--data.augment", "crop"), ("--data.store_dtype", "float16")):
        data = ("--data.train", "questions.jsonl", "--data.validation", "captions.jsonl", *settings)
        assert epalm("features", "build", "recipe.yaml", *data).code == 0
        done = epalm("train", "recipe.yaml", *data, "--output", "out")
        assert done.code == 0, done.err
        assert "perceiving" not in done.err
    assert len(json.loads(epalm("features", "info", "--json").out)) == 2  # float32 with both kinds of views, float16


def test_every_token_is_built_into_a_store_of_its_own(place: Path, epalm: Command, refused: Refused) -> None:
    build = ("features", "build", "recipe.yaml", "--data.train", "questions.jsonl", "--data.store", "here")
    assert epalm(*build).code == 0
    (summaries,) = Path("here").iterdir()
    done = epalm(*build, "--tokens", "--json", "built.json")
    assert done.code == 0, done.err
    (store,) = json.loads(Path("built.json").read_text())["stores"]
    assert (store["items"], store["shape"][::2], store["facts"]["tokens"]) == (4, [2, 16], "every")
    every, (shard,) = FeatureStore(Path(store["store"])), FeatureStore(summaries).shards
    assert every.folder != summaries
    assert every.description.shape[1] > 1
    tokens, features = every.read(every.find(shard.keys)), FeatureStore(summaries).read(np.arange(4))
    torch.testing.assert_close(tokens[:, :, 0], features)  # [CLS]
    assert "perceiving" not in epalm(*build, "--tokens").err
    assert epalm("features", "verify", "here").code == 0
    assert "holds every token" in refused(
        *TRAIN, "out", "--model.encoders", "{}", "--data.features.image", every.folder
    )


def test_views_of_every_token_and_files_that_cannot_be_read(place: Path, epalm: Command) -> None:
    Path("pictures/blue.png").write_bytes(b"no picture")
    build = ("features", "build", "recipe.yaml", "--data.train", "questions.jsonl", "--data.store", "here", "--tokens")
    skip = ("--data.on_bad_media", "skip", "--data.most_bad_media", 0.5, "--data.perception_batch", 1)
    done = epalm(*build, *skip, "--data.views", 2, "--data.augment", "crop", "--data.store_dtype", "float16")
    assert done.code == 0, done.err
    assert "items      6 of (2, " in done.out


def test_an_evaluation_stores_only_where_it_is_told_to(place: Path, epalm: Command) -> None:
    assert epalm(*TRAIN, "out", "--no-store").code == 0
    score = ("evaluate", "out", "--data", "questions.jsonl")
    assert epalm(*score).code == 0
    assert epalm("features", "info").code == 2
    assert "perceiving" in epalm(*score, "--data.store", "here").err
    assert "perceiving" not in epalm(*score, "--data.store", "here").err


def test_damage_is_told_and_mended(place: Path, epalm: Command) -> None:
    build = ("features", "build", "recipe.yaml", "--data.train", "questions.jsonl", "--data.store", "here")
    assert epalm(*build).code == 0
    assert epalm("features", "verify", "here").code == 0
    ((name, data),) = shards("here").items()
    (path,) = Path("here").glob(f"*/{name}")
    path.write_bytes(data[:-30] + b"?" + data[-29:])
    done = epalm("features", "verify", "here")
    assert (done.code, f"{name}: damaged; its checksum is another" in done.out) == (2, True)
    assert "epalm: here: 1 damaged file; features that were built are built again when next used" in done.err
    assert "perceiving image (4/4)" in epalm(*TRAIN, "out", "--data.store", "here").err
    assert epalm("features", "verify", "here").code == 0
    assert shards("here") == {name: data}


def test_refusals(place: Path, refused: Refused) -> None:
    build = ("features", "build", "recipe.yaml")
    assert "no rows to train on" in refused(*build)
    assert "data.store: is false" in refused(*build, "--data.train", "questions.jsonl", "--data.store", "false")
    assert "there is nothing to build" in refused(*build, "--adapter.preset", "text_only")
    assert "there is no feature store" in refused("features", "info", "nowhere")
    assert "data.store is given as well" in refused(*TRAIN, "out", "--no-store", "--data.store", "here")
    half = ("--data.store_dtype", "float16")
    assert "store_dtype is for features that are stored" in refused(*TRAIN, "out", "--no-store", *half)


# -- features of one's own --------------------------------------------------------------------------------------------


@pytest.fixture
def own_features(place: Path, backbones: Path, epalm: Command) -> Path:
    """`mine`, features of three levels of the four pictures, and `ready.yaml`, which trains on them."""
    features = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float32)
    np.savez("mine.npz", ids=[f"pictures/{name}.png" for name in tiny.COLOURS], features=features)
    assert epalm("features", "import", "mine.npz", "--output", "mine", "--made-by", "my eye").code == 0
    values = tiny.recipe_values(backbones)
    del values["model"]["encoders"]
    Path("ready.yaml").write_text(json.dumps(values | {"data": {"features": {"image": "mine"}}}))
    for path in Path("pictures").iterdir():
        path.unlink()
    return place


READY = ("train", "ready.yaml", "--data.train", "questions.jsonl", "--output", "out")


def test_features_that_are_refused_leave_nothing(place: Path, epalm: Command, refused: Refused) -> None:
    Path("empty.npz").write_bytes(b"")
    np.savez("wrong.npz", ids=list(tiny.COLOURS), features=np.full((4, 5), np.nan, np.float32))
    np.savez("fine.npz", ids=list(tiny.COLOURS), features=np.ones((4, 5), np.float32))
    bring = ("features", "import")
    assert "empty.npz: holds no features with their ids (no archive" in refused(*bring, "empty.npz", "--output", "mine")
    message = refused(*bring, "wrong.npz", "--output", "mine", "--dtype", "float16")
    assert "wrong.npz: the features of 'red' are not all finite numbers" in message
    assert not Path("mine").exists()
    assert "fine.npz: is a file; name a directory (--output)" in refused(*bring, "fine.npz", "--output", "fine.npz")
    assert "pictures: holds other files, such as" in refused(*bring, "fine.npz", "--output", "pictures")
    assert epalm(*bring, "fine.npz", "--output", "mine").code == 0


def test_training_and_scoring_on_features_of_ones_own(own_features: Path, epalm: Command, refused: Refused) -> None:
    done = epalm(*READY, "--data.validation", "captions.jsonl", "--data.holdout", 0.25)
    assert done.code == 0, done.err
    assert "on 1 row of 1 training file, held out" in done.out
    card = json.loads(Path("out/adapter_config.json").read_text())["encoders"]["image"]
    assert (card["width"], card["used_levels"], card["features_by"], card["source"]) == (5, 2, "my eye", None)
    assert "image encoder    none: ready features of my eye" in epalm("info", "out").out
    assert "| image encoder | ready features of my eye |" in Path("out/README.md").read_text()
    score = ("evaluate", "out", "--data", "questions.jsonl")
    assert epalm(*score, "--data.features.image", "mine").code == 0
    tiny.save_pictures(own_features / "pictures")
    for ask in (score, ("caption", "out", "pictures/red.png"), ("ask", "out", "pictures/red.png", "what?")):
        message = refused(*ask)
        assert "was trained on ready image features; name an encoder (model.encoders), or where features are" in message
    (own_features / "new.png").write_bytes(b"")
    assert "new.png: has no ready features" in refused("caption", "out", "new.png", "--data.features.image", "mine")
    assert epalm("caption", "out", "pictures/red.png", "--data.features.image", "mine").code == 0


def test_features_take_the_place_of_an_encoder(place: Path, backbones: Path, epalm: Command, refused: Refused) -> None:
    """A store that was built serves without the encoder, which may then be named again."""
    assert epalm(*TRAIN, "seen", "--data.store", "store").code == 0
    (folder,) = Path("store").iterdir()
    predictions = {}
    for name, settings in (("seen", ()), ("read", ("--data.features.image", folder))):
        options = ("--predictions", f"{name}.jsonl", "--generation.num_beams", 2)
        assert epalm("evaluate", "seen", "--data", "questions.jsonl", *options, *settings).code == 0
        predictions[name] = Path(f"{name}.jsonl").read_text()
    assert predictions["seen"] == predictions["read"]
    values = tiny.recipe_values(backbones)
    del values["model"]["encoders"]
    Path("ready.yaml").write_text(json.dumps(values | {"data": {"features": {"image": str(folder)}}}))
    done = epalm(*READY)
    assert done.code == 0, done.err
    assert epalm("caption", "out", "pictures/red.png", "--model.encoders.image", backbones / "vit").code == 0
    other = refused("caption", "out", "pictures/red.png", "--model.encoders.image", backbones / "other-vit")
    assert "trained on an image encoder with other weights" in other
    tiny.save_pictures(place / "new")
    Image.new("RGB", (8, 8), "pink").save("new/red.png")
    tiny.write_lines(Path("new.jsonl"), [{"image": "new/red.png", "caption": "red"}])
    assert "new/red.png: has no ready features" in refused(*READY[:2], "--data.train", "new.jsonl", *READY[4:])


def test_features_that_do_not_fit(own_features: Path, backbones: Path, epalm: Command, refused: Refused) -> None:
    assert epalm(*READY).code == 0
    score = ("evaluate", "out", "--data", "questions.jsonl", "--data.features.image")
    names = [f"pictures/{name}.png" for name in tiny.COLOURS]
    for name, shape, made_by, message in (
        ("wide", (4, 3, 6), "my eye", "wide: does not fit the image features: width is 6"),
        ("flat", (4, 5), "my eye", "flat: holds 1 levels, 2 are needed"),
        ("others", (4, 3, 5), "his eye", "others: holds features of his eye; those of my eye are needed"),
        (
            "every",
            (4, 3, 2, 5),
            "my eye",
            "every: holds every token, features of shape (K, N, E) = (3, 2, 5), and which of them sums up its level is "
            "not known; the adapter takes (K, E): import those tokens, or the means, alone",
        ),
    ):
        np.savez(f"{name}.npz", ids=names, features=np.zeros(shape, np.float32))
        assert epalm("features", "import", f"{name}.npz", "--output", name, "--made-by", made_by).code == 0
        assert message in refused(*score, name)
    assert "nowhere: no feature store" in refused(*score, "nowhere")
    both = ("--model.encoders.image", backbones / "vit")
    assert "data.features.image: there is an encoder for it as well" in refused(*READY, *both)
    assert "data.views: ready features have one view" in refused(*READY, "--data.views", 3)
    smell = ("--data.features.smell", "mine")
    assert "data.features: 'smell' is none of image, video, audio" in refused(*READY, *smell)


def test_rows_without_features(own_features: Path, epalm: Command, refused: Refused) -> None:
    rows = [*tiny.questions(), {"image": "pictures/pink.png", "caption": "pink"}]
    tiny.write_lines(Path("questions.jsonl"), rows)
    assert "pictures/pink.png: has no ready features; add them, or name an encoder" in refused(*READY)
    done = epalm(*READY, "--data.on_bad_media", "skip", "--data.most_bad_media", 0.5)
    assert done.code == 0, done.err
    assert "1 row skipped, for 1 file that cannot be read:\n  pictures/pink.png: has no ready features" in done.out


def test_an_id_may_stand_in_a_row_in_place_of_a_file(place: Path, epalm: Command, backbones: Path) -> None:
    save_file({"features": torch.randn(4, 5)}, "mine.safetensors", {"ids": json.dumps(list(tiny.COLOURS))})
    assert epalm("features", "import", "mine.safetensors", "--output", "mine").code == 0
    tiny.write_lines(Path("rows.jsonl"), [{"image": name, "caption": name} for name in tiny.COLOURS])
    settings = ("--model.encoders", "{}", "--data.features.image", "mine")
    done = epalm("train", "recipe.yaml", "--data.train", "rows.jsonl", "--output", "out", *settings)
    assert done.code == 0, done.err
