"""A store on disk: what is written is read to the bit, from anywhere; damage and strangers are noticed."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from epalm.data.store import FeatureStore, StoreDescription
from epalm.data.store.keys import as_keys, key_of
from epalm.data.store.shards import DTYPES, DamagedShardError, UnwritableError, read_shard, write_shard
from epalm.errors import DataError


def keys(first: int, last: int) -> np.ndarray:
    return as_keys(key_of(str(number).encode()) for number in range(first, last))


def described(shape: tuple[int, ...] = (2, 3), dtype: str = "float32", **facts: str) -> StoreDescription:
    return StoreDescription.build({"identity": "content", "shape": shape, "dtype": dtype, "facts": facts})


def filled(folder: Path, features: torch.Tensor, dtype: str = "float32", per_shard: int = 4) -> FeatureStore:
    store = FeatureStore(folder, described(tuple(features.shape[1:]), dtype))
    for first in range(0, len(features), per_shard):
        part = features[first : first + per_shard].to(DTYPES[dtype])
        write_shard(folder / f"{first:03}.safetensors", keys(first, first + len(part)), part)
    store.refresh()
    return store


@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 7, 3)])
def test_any_shape_and_precision_comes_back_to_the_bit(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    features = torch.randn(10, *shape, generator=torch.Generator().manual_seed(0)).to(DTYPES[dtype])
    store = filled(tmp_path, features, dtype)
    assert (len(store), len(store.shards)) == (10, 3)
    for wanted in ([9, 0, 3, 3, 8, 1, 7], [5], [], list(range(10))):
        given = store.read(store.find(keys(0, 10)[wanted]))
        assert given.dtype == DTYPES[dtype]
        assert torch.equal(given, features[wanted])
    again = FeatureStore(tmp_path)
    assert torch.equal(again.read(again.find(keys(0, 10))), features)
    assert again.find(keys(10, 12)).tolist() == [-1, -1]


def ragged(folder: Path, items: list[torch.Tensor], dtype: str, per_shard: int = 4) -> FeatureStore:
    """Items (K, N_i, E) of any N_i."""
    store = FeatureStore(folder, described((items[0].shape[0], -1, items[0].shape[2]), dtype))
    for first in range(0, len(items), per_shard):
        part = [item.movedim(0, 1) for item in items[first : first + per_shard]]
        lengths = np.array([len(item) for item in part])
        write_shard(folder / f"{first:03}.safetensors", keys(first, first + len(part)), torch.cat(part), lengths)
    store.refresh()
    return store


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_items_of_any_number_of_tokens_come_back_to_the_bit(tmp_path: Path, dtype: str) -> None:
    torch.manual_seed(0)
    items = [torch.randn(2, count, 3).to(DTYPES[dtype]) for count in (5, 1, 9, 2, 2, 7, 1, 3, 4, 30)]
    store = ragged(tmp_path, items, dtype)
    assert (len(store), len(store.shards), store.damaged) == (10, 3, {})
    assert {shard.shape for shard in store.shards} == {(2, -1, 3)}
    for opened in (store, FeatureStore(tmp_path)):
        for wanted in ([9, 0, 3, 3, 8, 1, 7], [5], list(range(10))):
            given = opened.read_tokens(opened.find(keys(0, 10)[wanted]))
            assert given.values.shape[2] == max(items[i].shape[1] for i in wanted)
            assert not given.values.movedim(1, 2)[~given.mask].any()
            assert all(torch.equal(a, items[i]) for a, i in zip(given.single(), wanted, strict=True))
    read = load_file(tmp_path / "000.safetensors")
    assert torch.equal(read["features"], torch.cat([item.movedim(0, 1) for item in items[:4]]))
    assert read["lengths"].tolist() == [5, 1, 9, 2]


def test_damage_to_items_of_any_number_of_tokens(tmp_path: Path) -> None:
    store = ragged(tmp_path, [torch.randn(2, count, 3) for count in (5, 1, 9, 2)], "float32")
    (shard,) = store.shards
    whole = shard.path.read_bytes()
    assert shard.is_whole()
    lengths = whole.index(np.array([5, 1, 9, 2]).tobytes())
    swapped = whole[:lengths] + np.array([1, 5, 9, 2]).tobytes() + whole[lengths + 32 :]
    flipped = whole[: shard.start] + bytes([whole[shard.start] ^ 1]) + whole[shard.start + 1 :]
    for damaged in (swapped, flipped):
        shard.path.write_bytes(damaged)
        assert not read_shard(shard.path).is_whole()
    for wrong in ([5, 1, 9, 3], [8, 1, 9, -1], [8, 0, 7, 2]):
        shard.path.write_bytes(whole[:lengths] + np.array(wrong).tobytes() + whole[lengths + 32 :])
        with pytest.raises(DamagedShardError, match="its header is damaged"):
            read_shard(shard.path)
    fixed = torch.zeros(4, 2, 3)
    write_shard(shard.path, keys(0, 4), fixed)
    assert list(FeatureStore(tmp_path).damaged) == [shard.path]


def test_what_is_read_is_the_readers_own(tmp_path: Path) -> None:
    store = filled(tmp_path, torch.ones(3, 2, 3))
    store.read(np.array([1])).zero_()
    assert store.read(np.array([1])).eq(1).all()


def test_a_shard_is_a_safetensors_file(tmp_path: Path) -> None:
    features = torch.randn(4, 2, 3)
    filled(tmp_path, features)
    read = load_file(tmp_path / "000.safetensors")
    assert set(read) == {"features", "keys"}
    assert torch.equal(read["features"], features)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000.safetensors", "store.json"]


def test_shards_may_be_added_while_a_store_is_open(tmp_path: Path) -> None:
    features = torch.randn(12, 2, 3)
    store = filled(tmp_path, features[:8])
    before = store.find(keys(0, 8))
    write_shard(tmp_path / "0.safetensors", keys(8, 12), features[8:])  # sorts in front of the others
    store.refresh()
    assert np.array_equal(store.find(keys(0, 8)), before)
    assert torch.equal(store.read(store.find(keys(0, 12))), features)


def test_damage_counts_as_absence(tmp_path: Path) -> None:
    features = torch.randn(16, 2, 3)
    store = filled(tmp_path, features)
    whole = {path: path.read_bytes() for path in sorted(tmp_path.glob("*.safetensors"))}
    cut, garbled, empty, _ = whole
    cut.write_bytes(whole[cut][:-1])
    garbled.write_bytes(whole[garbled][:8] + b"x" * 40 + whole[garbled][48:])
    empty.write_bytes(b"")
    store = FeatureStore(tmp_path)
    assert set(store.damaged) == {cut, garbled, empty}
    assert store.find(keys(0, 16)).tolist() == [-1] * 12 + [0, 1, 2, 3]
    for path in (cut, garbled, empty):
        with pytest.raises(DamagedShardError, match=path.name):
            read_shard(path)
        path.write_bytes(whole[path])
    store.refresh()
    assert not store.damaged
    assert torch.equal(store.read(store.find(keys(0, 16))), features)


def test_a_shard_that_loses_its_end_while_the_store_is_open_is_told_of(tmp_path: Path) -> None:
    features = torch.randn(8, 2, 3)
    store = filled(tmp_path, features)
    _, last = store.shards
    os.truncate(last.path, last.start + 30)
    assert torch.equal(store.read(store.find(keys(0, 5))), features[:5])  # what is left of it is right
    with pytest.raises(DataError, match=r"004\.safetensors: is shorter than it was"):
        store.read(store.find(keys(5, 6)))


def test_the_checksum_tells_a_single_bit(tmp_path: Path) -> None:
    (shard,) = filled(tmp_path, torch.randn(4, 2, 3)).shards
    assert shard.is_whole()
    data = shard.path.read_bytes()
    for at in (shard.start, shard.start + 4 * 2 * 3 * 4 - 1):
        shard.path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert not read_shard(shard.path).is_whole()
    shard.path.write_bytes(data)
    assert read_shard(shard.path).is_whole()


def test_a_shard_of_another_kind_is_none_of_the_stores(tmp_path: Path) -> None:
    store = filled(tmp_path, torch.randn(4, 2, 3))
    write_shard(tmp_path / "other.safetensors", keys(4, 6), torch.randn(2, 3, 3))
    write_shard(tmp_path / "half.safetensors", keys(6, 8), torch.randn(2, 2, 3).half())
    store.refresh()
    assert {path.name for path in store.damaged} == {"other.safetensors", "half.safetensors"}
    assert len(store) == 4


def test_a_store_of_something_else_is_refused(tmp_path: Path) -> None:
    FeatureStore(tmp_path, described(weights="a"))
    assert FeatureStore(tmp_path, described(weights="a")).description.facts == {"weights": "a"}
    for other, said in (
        (described(weights="b"), r'holds other features than those asked for \(weights "a", not "b"\)'),
        (described((3, 3), weights="a"), r"shape \[2, 3\], not \[3, 3\]"),
        (described(dtype="float16", weights="a"), 'dtype "float32", not "float16"'),
        (described(weights="a", device="cuda"), 'device null, not "cuda"'),
    ):
        with pytest.raises(DataError, match=said):
            FeatureStore(tmp_path, other)


def test_a_store_whose_description_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no feature store; store\.json is not there"):
        FeatureStore(tmp_path)
    FeatureStore(tmp_path, described())
    path = tmp_path / "store.json"
    values = json.loads(path.read_text())
    for text, said in (
        ("{", "damaged"),
        ("[]", "damaged"),
        (json.dumps(values | {"format": 99}), "has format 99, this version of epalm reads 1"),
        (json.dumps(values | {"dtype": "int4"}), "dtype"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=said):
            FeatureStore(tmp_path)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="features cannot be stored: Not a directory; name another place"):
        FeatureStore(tmp_path / "file" / "store", described())


def test_other_processes_can_be_told_that_a_place_cannot_be_written(tmp_path: Path) -> None:
    error = UnwritableError(tmp_path, "No space left on device")
    unpickled = pickle.loads(pickle.dumps(error))
    assert str(unpickled) == str(error)
    assert "features cannot be stored: No space left on device; name another place (data.store)" in str(unpickled)
