"""Features that somebody else made: read from their files, found by their ids, refused where they are wrong."""

from __future__ import annotations

import errno
import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import save_file

from epalm.data.file_features import PerceivedFiles
from epalm.data.store import ImportedFeatures
from epalm.data.store.importing import import_features
from epalm.encoders import TokenFeatures
from epalm.errors import DataError

SHARED = Path(__file__).parents[4] / "shared" / "data" / "flickr8k-mini"
IDS = ["a/1.jpg", "a/2.jpg", "b/1.jpg", "sound", "über.png"]


def saved(path: Path, features: np.ndarray, ids: Any = IDS) -> Path:
    np.savez(path, ids=ids, features=features)
    return path


def read(folder: Path, *names: str) -> torch.Tensor:
    kept = ImportedFeatures(folder)
    levels = kept.store.description.shape[0]
    files = PerceivedFiles({}, {"image": levels}, kept={"image": kept})
    features = files.of([{"image": Path(name)} for name in names])["image"]
    if isinstance(features, TokenFeatures):
        assert features.mask.all()
        return features.values
    return features


@pytest.mark.parametrize("shape", [(4,), (2, 4), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_npz_of_any_shape(tmp_path: Path, shape: tuple[int, ...], dtype: type) -> None:
    features = np.random.default_rng(0).normal(size=(5, *shape)).astype(dtype)
    store = import_features(saved(tmp_path / "a.npz", features), tmp_path / "store")
    wanted = torch.from_numpy(features).to(torch.float16 if dtype is np.float16 else torch.float32)
    wanted = wanted.unsqueeze(1) if len(shape) == 1 else wanted
    assert store.description.shape == wanted.shape[1:]
    assert torch.equal(read(tmp_path / "store", *IDS), wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_safetensors(tmp_path: Path, dtype: torch.dtype) -> None:
    features = torch.randn(5, 2, 4).to(dtype)
    save_file({"features": features}, tmp_path / "a.safetensors", {"ids": json.dumps(IDS)})
    import_features(tmp_path / "a.safetensors", tmp_path / "store")
    assert torch.equal(read(tmp_path / "store", *IDS), features)


@pytest.mark.parametrize("shape", [(4,), (2, 4), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_parquet(tmp_path: Path, shape: tuple[int, ...], dtype: type) -> None:
    features = np.random.default_rng(0).normal(size=(5, *shape)).astype(dtype)
    nested = pa.array(features.ravel())
    for size in reversed(shape):
        nested = pa.FixedSizeListArray.from_arrays(nested, size)
    fixed = pa.table({"id": IDS, "features": nested})
    lists = pa.table({"id": IDS, "features": pa.array(features.tolist(), list_of(pa.from_numpy_dtype(dtype), shape))})
    wanted = torch.from_numpy(features).to(torch.float16 if dtype is np.float16 else torch.float32)
    for number, table in enumerate((fixed, lists)):
        parquet.write_table(table, tmp_path / "a.parquet", row_group_size=2)
        import_features(tmp_path / "a.parquet", tmp_path / f"store{number}")
        assert torch.equal(read(tmp_path / f"store{number}", *IDS), wanted.unsqueeze(1) if len(shape) == 1 else wanted)


def list_of(kind: pa.DataType, shape: tuple[int, ...]) -> pa.DataType:
    for _ in shape:
        kind = pa.list_(kind)
    return kind


def test_parquet_of_several_shards(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(5000, 2)).astype(np.float32)
    names = [f"{i}.jpg" for i in range(5000)]
    parquet.write_table(pa.table({"id": names, "features": features.tolist()}), tmp_path / "a.parquet")
    store = import_features(tmp_path / "a.parquet", tmp_path / "store")
    assert len(store.shards) == 3
    assert torch.equal(read(tmp_path / "store", *names)[:, 0], torch.from_numpy(features))


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ([[1.0, 2.0], [3.0]], r"features are not all of one shape \(rows 0 to 1\)"),
        ([[1.0, 2.0], None], "features are not all of one shape"),
        ([[1.0, 2.0], [3.0, None]], "features must all be numbers"),
        ([["a"], ["b"]], r"holds no features with their ids \(features must all be numbers\)"),
        ([1.0, 2.0], r"of shape \(2,\); it must be"),
        ([[1, 2], [3, 4]], "features are of int64"),
        ([[1.0]] * 2048 + [[1.0, 2.0]], "the features of '2048' are of another shape than those of '0'"),
        ([], "holds no features with their ids"),
    ],
)
def test_parquet_without_features(tmp_path: Path, features: list, said: str) -> None:
    parquet.write_table(
        pa.table({"id": [str(i) for i in range(len(features))], "features": features}), tmp_path / "a.parquet"
    )
    with pytest.raises(DataError, match=said):
        import_features(tmp_path / "a.parquet", tmp_path / "store")


def test_ids_and_paths_of_different_systems(tmp_path: Path) -> None:
    features = np.arange(12, dtype=np.float32).reshape(4, 3)
    ids = ["train\\1.jpg", "cafe\u0301/2.jpg", "caf\u00e9", "x\\3.jpg"]
    import_features(saved(tmp_path / "a.npz", features, ids), tmp_path / "store")
    names = ["data/train/1.jpg", "caf\u00e9\\2.jpg", "cafe\u0301.jpg", "x\\3.jpg"]
    assert torch.equal(read(tmp_path / "store", *names)[:, 0], torch.from_numpy(features))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data are not there")
def test_features_of_another_framework_find_their_rows(tmp_path: Path) -> None:
    with np.load(SHARED / "features_mobilenetv2.npz") as file:
        ids, features = file["ids"].tolist(), torch.from_numpy(file["features"])
    import_features(SHARED / "features_mobilenetv2.npz", tmp_path / "store", made_by="MobileNetV2")
    rows = [json.loads(line) for name in ("train", "val") for line in (SHARED / f"{name}.jsonl").open()]
    names = [row["image"] for row in rows]
    given = read(tmp_path / "store", *(str(SHARED / name) for name in names))
    assert torch.equal(given, features[[ids.index(name) for name in names]])


def test_an_id_is_found_behind_any_slash_and_without_its_ending(tmp_path: Path) -> None:
    features = np.arange(20, dtype=np.float32).reshape(5, 4)
    import_features(saved(tmp_path / "a.npz", features), tmp_path / "store")
    for name, row in (
        ("a/1.jpg", 0),
        ("/data/set/b/1.jpg", 2),
        ("x/y/../a/2.jpg", 1),
        ("sound", 3),
        ("sound.wav", 3),
        ("some/where/sound.flac", 3),
        ("über.png", 4),
    ):
        assert read(tmp_path / "store", name)[0, 0, 0] == 4 * row


def test_two_files_never_share_an_id(tmp_path: Path) -> None:
    import_features(saved(tmp_path / "a.npz", np.zeros((5, 4), np.float32)), tmp_path / "store")
    assert read(tmp_path / "store", "x/sound.wav", "x/../x/sound.wav").shape == (2, 1, 4)
    with pytest.raises(DataError, match=r"y/sound\.wav and .*x/sound\.wav have the same id in it; give ids with dir"):
        read(tmp_path / "store", "x/sound.wav", "y/sound.wav")


def test_more_may_be_brought_and_the_same_again(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    first, rest = saved(tmp_path / "a.npz", features[:3], IDS[:3]), saved(tmp_path / "b.npz", features[3:], IDS[3:])
    for source in (first, rest, first):
        store = import_features(source, tmp_path / "store")
    assert (len(store), len(store.shards)) == (5, 2)
    assert torch.equal(read(tmp_path / "store", *IDS)[:, 0], torch.from_numpy(features))
    for source, said in (
        (saved(tmp_path / "c.npz", features[:3] + 1, IDS[:3]), "the id 'a/1.jpg' is in .*store already"),
        (saved(tmp_path / "d.npz", features[:2], ["new", IDS[4]]), "the id 'über.png' is in .*store already"),
        (saved(tmp_path / "e.npz", np.zeros((1, 5)), ["new"]), r"holds other features than those asked for \(shape"),
    ):
        with pytest.raises(DataError, match=said):
            import_features(source, tmp_path / "store")
    with pytest.raises(DataError, match='made_by null, not "another"'):
        import_features(first, tmp_path / "store", made_by="another")
    assert len(ImportedFeatures(tmp_path / "store").store) == 5


def test_damage_is_never_used(tmp_path: Path) -> None:
    source = saved(tmp_path / "a.npz", np.ones((5, 4), np.float32))
    (shard,) = import_features(source, tmp_path / "store").shards
    data = shard.path.read_bytes()
    for damaged in (data[:-1], data[: shard.start] + b"?" + data[shard.start + 1 :]):
        shard.path.write_bytes(damaged)
        with pytest.raises(DataError, match="remove it, and import or build it again"):
            read(tmp_path / "store", IDS[0])
        import_features(source, tmp_path / "store")
        assert read(tmp_path / "store", *IDS).eq(1).all()


def test_files_that_hold_no_features(tmp_path: Path) -> None:
    fine = np.zeros((5, 4), np.float32)
    wrong, huge = fine.copy(), fine.astype(np.float64)
    wrong[2, 1], huge[3, 0] = np.nan, 1e300
    np.savez(tmp_path / "nameless.npz", features=fine)
    save_file({"features": torch.zeros(5, 4)}, tmp_path / "nameless.safetensors")
    save_file({"features": torch.zeros(5, 4)}, tmp_path / "listless.safetensors", {"ids": "7"})
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "text.safetensors").write_text("no tensors")
    (tmp_path / "a.csv").write_text("1,2")
    for name, said in (
        ("none.npz", "no such file"),
        ("a.csv", "features are read from .npz, .safetensors, .parquet"),
        ("nameless.npz", "holds no features with their ids"),
        ("nameless.safetensors", r"holds no features with their ids .*see docs/features\.md"),
        ("listless.safetensors", "the metadata entry ids is no list"),
        ("text.npz", "holds no features with their ids"),
        ("text.safetensors", "holds no features with their ids"),
        (saved(tmp_path / "flat.npz", fine[:, 0]).name, r"of shape \(5,\); it must be"),
        (saved(tmp_path / "empty.npz", fine[:0], []).name, r"of shape \(0, 4\)"),
        (saved(tmp_path / "whole.npz", fine.astype(np.int64)).name, "features are of int64"),
        (saved(tmp_path / "short.npz", fine, IDS[:4]).name, "4 ids for 5 features"),
        (saved(tmp_path / "twice.npz", fine, [*IDS[:4], IDS[1]]).name, "the id 'a/2.jpg' occurs twice"),
        (saved(tmp_path / "wrong.npz", wrong).name, "the features of 'b/1.jpg' are not all finite numbers"),
        (saved(tmp_path / "huge.npz", huge).name, "the features of 'sound' do not fit float32"),
    ):
        with pytest.raises(DataError, match=said):
            import_features(tmp_path / name, tmp_path / "store")


def test_parquet_takes_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"")
    with pytest.raises(DataError, match=r'takes the package pyarrow: pip install "epalm\[parquet\]"'):
        import_features(tmp_path / "a.parquet", tmp_path / "store")


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_files_of_the_wrong_kind(tmp_path: Path) -> None:
    fine = np.zeros((5, 4), np.float32)
    (tmp_path / "nothing.npz").write_bytes(b"")
    (tmp_path / "pointer.npz").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    np.save(tmp_path / "a.npy", fine)
    (tmp_path / "a.npy").rename(tmp_path / "renamed.npz")
    with zipfile.ZipFile(tmp_path / "bytes.npz", "w") as archive:
        archive.writestr("ids.npy", b"abc")
        archive.writestr("features.npy", b"abc")
    whole = saved(tmp_path / "whole.npz", fine).read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    save_file({"features": torch.tensor(1.0)}, tmp_path / "scalar.safetensors", {"ids": json.dumps(IDS)})
    save_file({"features": torch.zeros(5, 4)}, tmp_path / "nested.safetensors", {"ids": json.dumps([[], *IDS[1:]])})
    torn = {"ids": json.dumps(["\ud800", *IDS[1:]])}
    save_file({"features": torch.zeros(5, 4)}, tmp_path / "torn.safetensors", torn)
    parquet.write_table(pa.table({"id": [None, "b"], "features": [[1.0], [2.0]]}), tmp_path / "null.parquet")
    latin = np.array([name.encode("latin-1") for name in IDS])
    for name, said in (
        (
            "nothing.npz",
            r"holds no features with their ids \(no archive of arrays, as numpy\.savez writes it\); see docs",
        ),
        ("renamed.npz", "no archive of arrays"),
        ("bytes.npz", "ids and features are no arrays"),
        ("pointer.npz", "it is a pointer of Git LFS: fetch the file with `git lfs pull`; see docs"),
        ("half.npz", "no archive of arrays"),
        ("scalar.safetensors", r"of shape \(\); it must be"),
        ("nested.safetensors", r"the id \[\] is no text"),
        ("torn.safetensors", "the id '.ud800' is not UTF-8"),
        ("null.parquet", "the id None is no text"),
        (saved(tmp_path / "text.npz", fine.astype(str)).name, "features are of text; they must be of float16"),
        (saved(tmp_path / "long.npz", fine.astype(np.longdouble)).name, "features are of .*; they must be of float16"),
        (saved(tmp_path / "pairs.npz", fine, [IDS, IDS]).name, r"ids are of shape \(2, 5\), not \(N,\)"),
        (saved(tmp_path / "one.npz", fine, "abcde").name, r"ids are of shape \(\), not \(N,\)"),
        (saved(tmp_path / "real.npz", fine, [0.5, 1, 2, 3, 4]).name, "the id 0.5 is no text"),
        (saved(tmp_path / "latin.npz", fine, latin).name, "is not UTF-8"),
    ):
        with pytest.raises(DataError, match=said) as raised:
            import_features(tmp_path / name, tmp_path / "store")
        assert str(raised.value).startswith(f"{tmp_path / name}: ")
        assert not (tmp_path / "store").exists()


def test_ids_may_be_bytes_and_numbers_and_features_of_the_other_byte_order(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    encoded = np.array([name.encode() for name in IDS])
    swapped = features.astype(features.dtype.newbyteorder("S"))
    import_features(saved(tmp_path / "a.npz", swapped, encoded), tmp_path / "store")
    assert torch.equal(read(tmp_path / "store", *IDS)[:, 0], torch.from_numpy(features))
    import_features(saved(tmp_path / "b.npz", features[:2], [7, 11]), tmp_path / "numbers")
    assert torch.equal(read(tmp_path / "numbers", "a/11.jpg", "7")[:, 0], torch.from_numpy(features[[1, 0]]))


@pytest.mark.parametrize("there", [False, True])
def test_nothing_is_left_of_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr("epalm.data.store.importing.items_per_shard", lambda shape, dtype: 2)
    store = tmp_path / "store"
    features = np.ones((5, 4), np.float32)
    if there:
        import_features(saved(tmp_path / "a.npz", features[:1].astype(np.float16), IDS[-1:]), store)
    before = left_in(store)
    wrong, large = features.copy(), features.copy()
    wrong[4, 0], large[4, 0] = np.nan, 70_000
    for name, given in (("wrong", wrong), ("large", large)):
        source = saved(tmp_path / f"{name}.npz", given, [*IDS[:4], "new"])
        said = {"wrong": "'new' are not all finite", "large": r"'new' do not fit float16; .* \(--dtype\)"}[name]
        with pytest.raises(DataError, match=said):
            import_features(source, store, dtype="float16")
        assert left_in(store) == before
        assert store.exists() == there
    if there:
        with pytest.raises(DataError, match=r"the id 'über\.png' is in .*store already"):
            import_features(saved(tmp_path / "b.npz", 2 * features), store, dtype="float16")
        assert left_in(store) == before
    else:
        assert import_features(saved(tmp_path / "b.npz", features), store).description.dtype == "float32"


@pytest.mark.parametrize("there", [False, True])
def test_nothing_is_left_where_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr("epalm.data.store.importing.items_per_shard", lambda shape, dtype: 2)
    store, features = tmp_path / "store", np.ones((5, 4), np.float32)
    if there:
        import_features(saved(tmp_path / "a.npz", features[:1], ["old"]), store)
    before = left_in(store)
    whole, written = os.fsync, []

    def full(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"store: features cannot be stored: No space .*; name another .* \(--output\)"):
        import_features(saved(tmp_path / "b.npz", features), store)
    assert left_in(store) == before
    assert store.exists() == there
    assert len(import_features(tmp_path / "b.npz", store)) == 5 + there


def test_places_where_no_store_can_be(tmp_path: Path) -> None:
    source = saved(tmp_path / "a.npz", np.ones((5, 4), np.float32))
    (tmp_path / "file").write_text("text")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("text")
    for name, said in (
        ("file", r"file: is a file; name a directory \(--output\)"),
        ("file/store", r"store: features cannot be stored: Not a directory; name another directory \(--output\)"),
        ("full", r"full: holds other files, such as 'letter\.txt', and no feature store; name a new or empty dir"),
    ):
        with pytest.raises(DataError, match=said):
            import_features(source, tmp_path / name)
    assert left_in(tmp_path) == ["a.npz", "file", "full", "letter.txt"]
    (tmp_path / "empty").mkdir()
    assert len(import_features(source, tmp_path / "empty")) == 5
