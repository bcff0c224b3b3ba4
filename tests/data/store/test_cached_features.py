"""Features of files through a store: the bits that the encoder gives, perceived once, and never another file's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from PIL import Image

from epalm.data import feature_cache
from epalm.data.file_features import PerceivedFiles
from epalm.data.store import CachedFeatures, FeatureStore, ImportedFeatures, describe_encoder, file_hashes
from epalm.data.store.file_hashes import content_of, place_of
from epalm.data.store.report import report_on
from epalm.data.views import Views
from epalm.encoders import PerceptualEncoder, load_encoder
from epalm.errors import DataError, MediaError
from epalm.runtime.processes import Processes

K = 2
Rows = list[dict[str, Path]]


@pytest.fixture(scope="module")
def encoder(backbones: Path) -> PerceptualEncoder:
    return load_encoder(backbones / "vit")


@pytest.fixture
def pictures(tmp_path: Path) -> Rows:
    folder = tiny.save_pictures(tmp_path / "pictures")
    return [{"image": folder / f"{name}.png"} for name in tiny.COLOURS]


class Perceiving:
    """Opens a store anew, as the next run does, and counts what is perceived there."""

    def __init__(self, encoder: PerceptualEncoder, folder: Path) -> None:
        self.encoder, self.folder = encoder, folder

    def open(
        self, dtype: Any = None, views: Views | None = None, batch_size: int = 3, **options: Any
    ) -> PerceivedFiles:
        description = describe_encoder(self.encoder, K, dtype)
        kept = CachedFeatures(self.folder / description.key, description, views or Views(), batch_size)
        encoders = {"image": self.encoder}
        return PerceivedFiles(
            encoders, {"image": K}, batch_size=batch_size, views=views, kept={"image": kept}, **options
        )

    def perceived(self, rows: Rows, training: bool = False, **options: Any) -> tuple[PerceivedFiles, int]:
        progress_of: list[tuple[str, int, int]] = []
        files = self.open(**options)
        files.perceive(rows, lambda *news: progress_of.append(news), training=training)
        assert all(what == "perceiving image" for what, _, _ in progress_of)
        assert not progress_of or progress_of[-1][1] == progress_of[-1][2]
        return files, progress_of[-1][2] if progress_of else 0


@pytest.fixture
def stored(encoder: PerceptualEncoder, tmp_path: Path) -> Perceiving:
    return Perceiving(encoder, tmp_path / "store")


def anew(encoder: PerceptualEncoder, rows: Rows, **options: Any) -> torch.Tensor:
    return PerceivedFiles({"image": encoder}, {"image": K}, keep=False, **options).of(rows)["image"]


def test_the_same_bits_as_on_the_fly_and_perceived_once(
    encoder: PerceptualEncoder, stored: Perceiving, pictures: Rows
) -> None:
    rows = [pictures[i] for i in (3, 0, 0, 2, 1)]
    files, count = stored.perceived(pictures)
    assert count == 4
    assert torch.equal(files.of(rows)["image"], anew(encoder, rows))
    files, count = stored.perceived(rows)
    assert count == 0
    assert torch.equal(files.of(rows)["image"], anew(encoder, rows))
    assert torch.equal(stored.open().of(rows)["image"], anew(encoder, rows))  # without being asked to before


def test_what_is_new_is_added(encoder: PerceptualEncoder, stored: Perceiving, pictures: Rows) -> None:
    assert stored.perceived(pictures[:2])[1] == 2
    files, count = stored.perceived(pictures)
    assert count == 2
    assert torch.equal(files.of(pictures)["image"], anew(encoder, pictures))


def test_a_small_work_has_several_shards(stored: Perceiving, tmp_path: Path) -> None:
    rows = []
    for number in range(70):
        Image.new("RGB", (8, 8), (number, 7, 7)).save(tmp_path / f"{number}.bmp")
        rows.append({"image": tmp_path / f"{number}.bmp"})
    files, count = stored.perceived(rows)
    assert count == 70
    kept = files.kept["image"]
    assert isinstance(kept, CachedFeatures)
    assert sorted(map(len, kept.store.shards)) == [6, 32, 32]


def test_files_that_were_moved_copied_or_touched_keep_their_features(
    stored: Perceiving, pictures: Rows, tmp_path: Path
) -> None:
    files, _ = stored.perceived(pictures)
    before = files.of(pictures)["image"]
    shutil.copytree(tmp_path / "pictures", tmp_path / "copy", copy_function=shutil.copyfile)
    (tmp_path / "pictures").rename(tmp_path / "moved")
    for name in ("copy", "moved"):
        rows = [{"image": tmp_path / name / row["image"].name} for row in pictures]
        os.utime(rows[0]["image"], (1, 1))
        files, count = stored.perceived(rows)
        assert count == 0
        assert torch.equal(files.of(rows)["image"], before)


def test_a_file_that_was_replaced_gets_features_of_its_own(
    encoder: PerceptualEncoder, stored: Perceiving, tmp_path: Path
) -> None:
    """Even with the old one's name, size and time of change."""
    path = tmp_path / "a.bmp"
    Image.new("RGB", (8, 8), "red").save(path)
    old = path.stat()
    before, count = stored.perceived([{"image": path}])
    assert count == 1
    Image.new("RGB", (8, 8), "blue").save(path)
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (old.st_size, old.st_mtime_ns)
    after, count = stored.perceived([{"image": path}])
    assert count == 1
    assert torch.equal(after.of([{"image": path}])["image"], anew(encoder, [{"image": path}]))
    assert not torch.equal(after.of([{"image": path}])["image"], before.of([{"image": path}])["image"])


def test_a_file_that_changes_while_it_is_perceived_is_not_stored(
    stored: Perceiving, pictures: Rows, encoder: PerceptualEncoder
) -> None:
    class Changing(Views):
        def decode(self, encoder: PerceptualEncoder, path: Path, view: int | None = None) -> Any:
            Image.new("RGB", (9, 9), "yellow").save(path)
            return super().decode(encoder, path, view)

    files = stored.open(views=Changing())
    with pytest.raises(MediaError, match=r"red\.png: was changed while it was read; run this again"):
        files.perceive(pictures[:1])
    files, count = stored.perceived(pictures[:1])
    assert count == 1
    assert torch.equal(files.of(pictures[:1])["image"], anew(encoder, pictures[:1]))


def test_files_of_one_content_are_perceived_once(stored: Perceiving, pictures: Rows, tmp_path: Path) -> None:
    shutil.copy(pictures[0]["image"], tmp_path / "twin.png")
    twin = {"image": tmp_path / "twin.png"}
    files, count = stored.perceived([pictures[0], twin, pictures[1]])
    assert count == 2
    features = files.of([pictures[0], twin])["image"]
    assert torch.equal(features[0], features[1])


def test_views_are_stored_one_by_one(encoder: PerceptualEncoder, stored: Perceiving, tmp_path: Path) -> None:
    rows = []
    for number in range(3):
        Image.linear_gradient("L").rotate(90 * number).convert("RGB").save(tmp_path / f"{number}.png")
        rows.append({"image": tmp_path / f"{number}.png"})

    def views(number: int = 3, seed: int = 0, augment: Any = "strong") -> Views:
        return Views(number, seed, augment)

    files, count = stored.perceived(rows, training=True, views=views())
    assert count == 9
    memory = PerceivedFiles({"image": encoder}, {"image": K}, views=views())
    for step in range(6):
        assert torch.equal(files.of(rows, step=step)["image"], memory.of(rows, step=step)["image"])
    assert torch.equal(files.of(rows)["image"], anew(encoder, rows))  # the view of evaluation is another
    assert stored.perceived(rows, training=True, views=views())[1] == 0
    assert stored.perceived(rows, training=True, views=views(5))[1] == 6  # three of the five are there
    assert stored.perceived(rows, training=True, views=views(seed=1))[1] == 9
    assert stored.perceived(rows, training=True, views=views(augment="crop"))[1] == 9
    (tmp_path / "0.png").rename(tmp_path / "other.png")  # a view is drawn by the name
    assert stored.perceived([{"image": tmp_path / "other.png"}], training=True, views=views())[1] == 3


@pytest.mark.parametrize(("dtype", "bits"), [("float16", 11), ("bfloat16", 8)])
def test_half_precision_loses_the_last_bits_alone(
    encoder: PerceptualEncoder, stored: Perceiving, pictures: Rows, dtype: str, bits: int
) -> None:
    files, _ = stored.perceived(pictures, dtype=dtype)
    given, wanted = files.of(pictures)["image"], anew(encoder, pictures)
    assert given.dtype == getattr(torch, dtype)
    assert torch.equal(given, wanted.to(given.dtype))
    assert ((given.float() - wanted).abs() <= wanted.abs() * 2.0**-bits + 1e-7).all()
    assert stored.perceived(pictures)[1] == 4  # float32 is a store of its own


def test_features_that_half_precision_cannot_hold_are_refused(
    backbones: Path, stored: Perceiving, pictures: Rows
) -> None:
    loud = load_encoder(backbones / "vit")
    with torch.no_grad():
        loud.anatomy.norm.weight.mul_(1e6)
    with pytest.raises(DataError, match=r"features of up to .*e\+0. do not fit float16; choose bfloat16 or float32"):
        Perceiving(loud, stored.folder).perceived(pictures, dtype="float16")
    assert Perceiving(loud, stored.folder).perceived(pictures, dtype="bfloat16")[1] == 4


def test_damage_is_found_and_mended(encoder: PerceptualEncoder, stored: Perceiving, pictures: Rows) -> None:
    stored.perceived(pictures[:2])
    stored.perceived(pictures)
    files = sorted(stored.folder.glob("*/*.safetensors"))
    whole = {path: path.read_bytes() for path in files}
    assert len(whole) == 2

    def flipped(data: bytes) -> bytes:
        return data[:-40] + bytes([data[-40] ^ 1]) + data[-39:]

    for path in files:
        for damaged in (b"", whole[path][:-1], flipped(whole[path])):
            path.write_bytes(damaged)
            opened, count = stored.perceived(pictures)
            assert count == 2
            assert torch.equal(opened.of(pictures)["image"], anew(encoder, pictures))
            assert stored.perceived(pictures)[1] == 0
            (folder,) = {each.parent for each in files}
            assert not FeatureStore(folder).damaged


def test_what_takes_long_before_anything_is_perceived_is_told_of(
    stored: Perceiving, pictures: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def progress_of(rows: Rows, files: PerceivedFiles) -> list[tuple[str, int, int]]:
        news: list[tuple[str, int, int]] = []
        files.perceive(rows, lambda *one: news.append(one))
        return news

    monkeypatch.setattr(feature_cache, "_NOTICEABLE", 3600)
    assert progress_of(pictures[:1], stored.open()) == [("perceiving image", 1, 1)]
    monkeypatch.setattr(feature_cache, "_NOTICEABLE", 0)
    assert progress_of(pictures, stored.open()) == [
        *(("identifying image", number, 3) for number in (1, 2, 3)),  # the first is known
        ("verifying image", 1, 1),
        ("perceiving image", 3, 3),
    ]
    assert progress_of(pictures, stored.open()) == [("verifying image", 1, 2), ("verifying image", 2, 2)]
    (store,) = stored.folder.iterdir()
    shutil.rmtree(store / "places")
    assert progress_of(pictures[1:], PerceivedFiles({}, {"image": K}, kept={"image": ImportedFeatures(store)})) == [
        *(("identifying image", number, 3) for number in (1, 2, 3)),
        ("verifying image", 1, 1),
    ]
    news: list[tuple[str, int, int]] = []
    report_on(store, checksums=True, on_progress=lambda *one: news.append(one))
    assert news == [("verifying", 1, 2), ("verifying", 2, 2)]


def test_files_that_another_process_identifies_are_counted(
    pictures: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class First(Processes):
        """The first of two, of which the other reads the last two files."""

        def share(self, value: Any) -> list[Any]:
            return [value, list(map(content_of, paths[2:]))]

    monkeypatch.setattr(file_hashes, "_AT_ONCE", 2)
    paths = [row["image"] for row in pictures]
    news: list[tuple[int, int]] = []
    found = file_hashes.FileHashes(tmp_path / "places").identify(
        {path: place_of(path) for path in paths}, First(0, 2), lambda *one: news.append(one)
    )
    assert found == {path: content_of(path) for path in paths}
    assert news == [(1, 4), (2, 4), (4, 4)]


def test_what_is_remembered_of_files_may_be_damaged(stored: Perceiving, pictures: Rows) -> None:
    stored.perceived(pictures)
    (table,) = stored.folder.glob("*/places/*.npy")
    table.write_bytes(table.read_bytes()[:-8] + b"12345678")
    assert stored.perceived(pictures)[1] == 0


@pytest.mark.parametrize("skip", [True, False])
def test_files_that_cannot_be_read(
    encoder: PerceptualEncoder, stored: Perceiving, pictures: Rows, tmp_path: Path, skip: bool
) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_bytes(b"no picture")
    bad = [{"image": tmp_path / name} for name in ("empty.png", "text.png", "none.png")]
    rows = [pictures[0], bad[0], *pictures[1:], *bad[1:]]
    if not skip:
        for row, said in zip(bad, ("empty", "not a picture", "no such file"), strict=True):
            with pytest.raises(MediaError, match=said):
                stored.open().perceive([*pictures, row], training=True)
        with pytest.raises(MediaError, match="no such file"):
            stored.open(skip_bad=True).perceive(rows)  # an evaluation
        return
    for count in (6, 2):  # what cannot be read is tried again by the next run
        files, total = stored.perceived(rows, training=True, skip_bad=True)
        assert total == count
        assert {path.name: str(error).rpartition(": ")[2] for (_, path), error in files.bad.items()} == {
            "empty.png": "the file is empty",
            "text.png": "not a picture, or not in a format that can be read here; save it as JPEG or PNG",
            "none.png": "no such file",
        }
        assert torch.equal(files.of(pictures, step=0)["image"], anew(encoder, pictures))
        with pytest.raises(MediaError, match="not a picture"):
            files.of([pictures[0], bad[1]], step=0)


def test_the_key_holds_what_changes_the_numbers(backbones: Path, encoder: PerceptualEncoder) -> None:
    def key(encoder: PerceptualEncoder, levels: int = K, dtype: Any = None) -> str:
        return describe_encoder(encoder, levels, dtype).key

    same = key(load_encoder(backbones / "vit"))
    assert key(encoder) == same
    assert key(encoder, dtype="float32") == same  # which is what it gives
    nudged, resized, half = (load_encoder(backbones / "vit") for _ in range(3))
    with torch.no_grad():  # less than a fingerprint would see
        next(nudged.backbone.parameters()).view(-1)[0] *= 1.0001
    resized.processor.image_mean = [0.1, 0.2, 0.3]
    half.to(torch.bfloat16)
    others = [
        key(nudged),
        key(resized),
        key(half),
        key(encoder, levels=1),
        key(encoder, dtype="float16"),
        key(load_encoder(backbones / "other-vit")),
        key(load_encoder(backbones / "vit", modality="video")),
        key(load_encoder(backbones / "vit", modality="video", frames=4)),
        key(load_encoder(backbones / "vit", attn_implementation="eager")),
        describe_encoder(encoder, K, every_token=True).key,
    ]
    assert len({same, *others}) == 1 + len(others)


def test_an_encoder_that_was_moved_is_the_same(backbones: Path, tmp_path: Path, encoder: PerceptualEncoder) -> None:
    shutil.copytree(backbones / "vit", tmp_path / "eye")
    moved = describe_encoder(load_encoder(tmp_path / "eye"), K)
    assert moved.key == describe_encoder(encoder, K).key
    assert moved.made_by == str(tmp_path / "eye")
