"""Shards: what is in them follows from the items alone, whoever builds them and whenever they were stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from epalm.data.store import FeatureStore, StoreDescription
from epalm.data.store.builder import build, items_per_shard
from epalm.data.store.keys import as_keys, key_of
from epalm.encoders import TokenFeatures
from epalm.errors import DataError, MediaError
from epalm.runtime.processes import ALONE, Processes

ITEMS = [(number, key_of(str(number).encode())) for number in range(23)]
PER_SHARD = 4


class Source:
    """Gives (1, 2) of an item's number; some items cannot be perceived, and at one the work may stop."""

    def __init__(self, unreadable: Sequence[int] = (), stops_at: int | None = None) -> None:
        self.unreadable, self.stops_at = unreadable, stops_at
        self.asked: list[int] = []

    def __call__(self, batches: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], torch.Tensor]]:
        for batch in batches:
            self.asked += batch
            if self.stops_at in batch:
                raise MediaError("stopped")
            read = [item for item in batch if item not in self.unreadable]
            yield read, torch.tensor(read, dtype=torch.float32).reshape(-1, 1, 1).expand(-1, 1, 2)


def opened(folder: Path, dtype: str = "float32") -> FeatureStore:
    return FeatureStore(folder, StoreDescription.build({"identity": "id", "shape": (1, 2), "dtype": dtype}))


def built(folder: Path, source: Source, items: Sequence[tuple[int, bytes]] = ITEMS, dtype: str = "float32"):
    progress: list[tuple[int, int]] = []
    store = opened(folder, dtype)
    build(
        store,
        items,
        source,
        batch_size=3,
        per_shard=PER_SHARD,
        processes=ALONE,
        on_progress=lambda done, total: progress.append((done, total)),
    )
    return store, progress


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_item_is_perceived_once_in_its_place(tmp_path: Path) -> None:
    source = Source()
    store, progress = built(tmp_path, source)
    assert source.asked == list(range(23))
    assert progress[-1] == (23, 23)
    assert [done for done, _ in progress] == sorted({done for done, _ in progress})
    assert len(store.shards) == 6
    features = store.read(store.find(as_keys(key for _, key in ITEMS)))
    assert torch.equal(features[:, 0, 0], torch.arange(23.0))
    again = Source()
    assert built(tmp_path, again)[1] == []
    assert again.asked == []


@pytest.mark.parametrize("unreadable", [(), (1, 9, 10, 22), tuple(range(8, 12))])
@pytest.mark.parametrize("stops_at", [0, 5, 11, 22])
def test_a_build_that_was_stopped_goes_on_where_it_was(tmp_path: Path, unreadable: tuple[int], stops_at: int) -> None:
    undisturbed, stopped = tmp_path / "undisturbed", tmp_path / "stopped"
    built(undisturbed, Source(unreadable))
    with pytest.raises(MediaError, match="stopped"):
        built(stopped, Source(unreadable, stops_at))
    finished = {path: path.stat() for path in stopped.glob("*.safetensors")}
    assert len(finished) >= stops_at // PER_SHARD - (1 if unreadable else 0)
    rest = Source(unreadable)
    built(stopped, rest)
    known = [item for item in range(stops_at // PER_SHARD * PER_SHARD) if item not in unreadable]
    assert not set(known) & set(rest.asked)
    for path, before in finished.items():
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert contents(stopped) == contents(undisturbed)


def test_more_items_are_put_beside_those_that_are_there(tmp_path: Path) -> None:
    built(tmp_path, Source(), ITEMS[3:9])
    before = contents(tmp_path)
    source = Source()
    store, progress = built(tmp_path, source)
    assert source.asked == [0, 1, 2, *range(9, 23)]
    assert progress[-1] == (17, 17)
    assert before.items() <= contents(tmp_path).items()
    assert torch.equal(store.read(store.find(as_keys(key for _, key in ITEMS)))[:, 0, 0], torch.arange(23.0))


def test_what_does_not_fit_the_precision_is_refused(tmp_path: Path) -> None:
    items = [(number, key_of(str(number).encode())) for number in (1, 70_000)]
    with pytest.raises(DataError, match=r"features of up to 7e\+04 do not fit float16"):
        built(tmp_path, Source(), items, "float16")
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_token_is_built_read_and_mended(tmp_path: Path, dtype: str) -> None:
    torch.manual_seed(0)
    shape, kind = (2, 3, 5), getattr(torch, dtype)  # (K, S, E)
    given = torch.randn(len(ITEMS), *shape)
    description = StoreDescription.build({"identity": "id", "shape": shape, "dtype": dtype})

    def perceive(batches: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], torch.Tensor]]:
        for batch in batches:
            yield list(batch), given[list(batch)]

    def build_all() -> FeatureStore:
        store = FeatureStore(tmp_path, description)
        build(
            store,
            ITEMS,
            perceive,
            batch_size=3,
            per_shard=PER_SHARD,
            processes=ALONE,
            on_progress=lambda done, total: None,
        )
        return store

    store = build_all()
    before = contents(tmp_path)
    order = torch.randperm(len(ITEMS)).tolist()
    read = store.read(store.find(as_keys(ITEMS[number][1] for number in order)))
    assert read.dtype == kind
    assert torch.equal(read, given[order].to(kind))
    assert all(shard.is_whole() for shard in store.shards)
    damaged = store.shards[1].path
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    assert [shard.path for shard in FeatureStore(tmp_path).shards if not shard.is_whole()] == [damaged]
    damaged.write_bytes(content[:-9])
    assert list(FeatureStore(tmp_path).damaged) == [damaged]
    build_all()
    assert contents(tmp_path) == before


@pytest.mark.parametrize("shard_bytes", [1 << 26, 100])
@pytest.mark.parametrize("stops_at", [5, 9, 22])
def test_items_of_any_number_of_tokens_are_built_and_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard_bytes: int, stops_at: int
) -> None:
    """Where a planned shard is too large it becomes several; a stop between them changes nothing either."""
    monkeypatch.setattr("epalm.data.store.builder._SHARD_BYTES", shard_bytes)
    torch.manual_seed(0)
    given = [torch.randn(2, 1 + 7 * number % 5, 3) for number in range(len(ITEMS))]
    description = StoreDescription.build({"identity": "id", "shape": (2, -1, 3), "dtype": "float16"})
    unreadable, asked = (1, 7), list[int]()

    def build_all(folder: Path, stops_at: int | None = None) -> FeatureStore:
        def perceive(batches: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], TokenFeatures]]:
            for batch in batches:
                if stops_at in batch:
                    raise MediaError("stopped")
                asked.extend(batch)
                read = [item for item in batch if item not in unreadable]
                nobody = TokenFeatures.of(torch.empty(0, 2, 1, 3))
                yield read, TokenFeatures.padded([given[item] for item in read]) if read else nobody

        store = FeatureStore(folder, description)
        build(
            store,
            ITEMS,
            perceive,
            batch_size=3,
            per_shard=8,
            processes=ALONE,
            on_progress=lambda done, total: None,
        )
        return store

    store = build_all(tmp_path / "undisturbed")
    most = max(len(shard) for shard in store.shards)
    assert (len(store.shards), most) == (3, 8) if shard_bytes > 100 else most < 8
    read = [item for item, _ in ITEMS if item not in unreadable]
    tokens = store.read_tokens(store.find(as_keys(ITEMS[item][1] for item in read))).single()
    assert all(torch.equal(mine, given[item].half()) for mine, item in zip(tokens, read, strict=True))
    with pytest.raises(MediaError, match="stopped"):
        build_all(tmp_path / "stopped", stops_at)
    stored = len(FeatureStore(tmp_path / "stopped"))
    assert stored or stops_at < 8
    asked.clear()
    build_all(tmp_path / "stopped")
    assert len(asked) == len(ITEMS) - stored
    assert contents(tmp_path / "stopped") == contents(tmp_path / "undisturbed")


class Together(Processes):
    """Processes that are threads, which wait for each other as processes do."""

    def __init__(self, rank: int, barrier: threading.Barrier, table: list) -> None:
        super().__init__(rank, len(table))
        object.__setattr__(self, "barrier", barrier)
        object.__setattr__(self, "table", table)

    def share(self, value: Any) -> list[Any]:
        self.table[self.rank] = value
        self.barrier.wait(60)
        every = list(self.table)
        self.barrier.wait(60)
        return every


def two() -> tuple[Together, Together]:
    barrier, table = threading.Barrier(2), [None, None]
    return Together(0, barrier, table), Together(1, barrier, table)


@pytest.mark.parametrize("shard", [0, 1, 5])
def test_what_another_launch_wrote_meanwhile_is_seen_by_all(tmp_path: Path, shard: int) -> None:
    early = opened(tmp_path)
    built(tmp_path, Source(), ITEMS[PER_SHARD * shard :][:PER_SHARD])
    late = opened(tmp_path)
    assert not len(early)
    assert len(late)

    def run(store: FeatureStore, processes: Processes) -> None:
        build(
            store,
            ITEMS,
            Source(),
            batch_size=3,
            per_shard=PER_SHARD,
            processes=processes,
            on_progress=lambda done, total: None,
        )

    with ThreadPoolExecutor(2) as ranks:
        list(ranks.map(run, (early, late), two()))
    for store in (early, late):
        found = store.find(as_keys(key for _, key in ITEMS))
        assert torch.equal(store.read(found)[:, 0, 0], torch.arange(23.0))


def test_a_damaged_shard_does_not_come_back_at_the_end_of_a_build(tmp_path: Path) -> None:
    store, _ = built(tmp_path, Source(), ITEMS[:3])
    store.drop(store.shards[0], "damaged")
    unreadable = Source(unreadable=(1,))
    build(store, ITEMS, unreadable, batch_size=3, per_shard=4, processes=ALONE, on_progress=lambda done, total: None)
    assert store.find(as_keys([ITEMS[1][1]])).tolist() == [-1]
    assert (store.find(as_keys(key for _, key in ITEMS)) < 0).sum() == 1


def test_processes_agree_on_what_is_there(tmp_path: Path) -> None:
    early, late = opened(tmp_path), opened(tmp_path)
    first, second = two()
    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(early.refresh, first)
        while not first.barrier.n_waiting and not waiting.done():
            time.sleep(0.001)
        built(tmp_path, Source())  # between the looks of two processes
        late.refresh(second)
        waiting.result()
    assert len(early) == len(late) == len(ITEMS)


def test_shards_are_no_larger_than_they_should_be() -> None:
    assert items_per_shard((6, 768), "float16") == 2048
    assert items_per_shard((6, 1024), "float32") == 2048
    assert items_per_shard((12, 1024), "float32") == 1365
    assert items_per_shard((6, 768), "float32", cost=8) == 256  # a clip of eight frames is eight pictures to lose
    assert items_per_shard((6, 197, 768), "float32") == 18
    assert items_per_shard((1, 1 << 30), "float32") == 1
    assert items_per_shard((6, -1, 768), "float32") == 2048  # by their number alone


def test_little_work_is_shared_out_in_small_shards() -> None:
    def per_shard(count: int, cost: int = 1, shape: tuple[int, ...] = (6, 768)) -> int:
        return items_per_shard(shape, "float32", cost, count)

    assert [per_shard(count) for count in (0, 1, 31, 32, 300, 512, 1023)] == [32] * 7
    assert [per_shard(count) for count in (1024, 5000, 32_767, 32_768, 1_000_000)] == [64, 288, 2016, 2048, 2048]
    assert [per_shard(count, cost=8) for count in (300, 3000, 30_000)] == [32, 160, 256]
    assert per_shard(300, shape=(6, 197, 768)) == 18
    assert all(16 <= -(-count // per_shard(count)) <= 32 for count in range(512, 32_768, 7))


def test_one_process_alone_shares_with_itself() -> None:
    assert Processes().share("a") == ["a"]
