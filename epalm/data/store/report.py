"""What is in a feature store, and whether all of it is whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from epalm.data.feature_cache import once_noticeable
from epalm.data.store.description import StoreDescription
from epalm.data.store.store import FeatureStore


@dataclass(frozen=True)
class StoreReport:
    """Facts of one store, for people and for JSON."""

    folder: Path
    description: StoreDescription
    items: int
    shards: int
    size: int
    """Of the shards, in bytes."""
    damaged: dict[Path, str]
    """Files that are no whole shards, and why."""
    tokens: tuple[int, int] | None = None
    """The fewest and the most of an item, where items differ in them."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "store": str(self.folder),
            "key": self.description.key,
            "items": self.items,
            "shards": self.shards,
            "bytes": self.size,
            "damaged": {path.name: why for path, why in self.damaged.items()},
            **({"tokens": self.tokens} if self.tokens else {}),
            **self.description.model_dump(mode="json"),
        }

    def as_text(self) -> str:
        """For people."""
        description = self.description
        facts = description.facts
        shape = description.shape_text + (
            f" with N from {self.tokens[0]:,} to {self.tokens[1]:,}" if self.tokens else ""
        )
        made_on = ", ".join(str(facts[name]) for name in ("device", "computed_in") if facts.get(name))
        lines = [
            ("store", str(self.folder)),
            ("modality", facts.get("modality")),
            ("made by", description.made_by),
            ("revision", description.revision),
            ("made on", made_on),
            ("items", f"{self.items:,} of {shape}, {description.dtype}, known by {description.identity}"),
            ("patches", description.grid and "{} x {}".format(*description.grid)),
            ("shards", f"{self.shards}, {self.size / 1e6:,.1f} MB"),
            *(("damaged", why) for why in self.damaged.values()),
        ]
        return "\n".join(f"{name:<10} {fact}" for name, fact in lines if fact)


def report_on(
    folder: Path, *, checksums: bool = False, on_progress: Callable[[str, int, int], None] | None = None
) -> StoreReport:
    """Look into a store.

    Args:
        folder: of the store.
        checksums: read every byte, to see whether it is what was written.
        on_progress: told of the shards that have been read so, where that takes long.

    Raises:
        DataError: there is no store, or its description is damaged.
    """
    store = FeatureStore(folder)
    shards = store.shards if checksums else ()
    report = once_noticeable(partial(on_progress, "verifying")) if on_progress else None
    for number, shard in enumerate(shards, 1):
        if not shard.is_whole():
            store.drop(shard, f"{shard.path}: damaged; its checksum is another")
        if report is not None:
            report(number, len(shards))
    size = sum(shard.path.stat().st_size for shard in store.shards)
    lengths = [length for shard in store.shards if shard.lengths is not None for length in shard.lengths.tolist()]
    tokens = (min(lengths), max(lengths)) if lengths else None
    return StoreReport(folder, store.description, len(store), len(store.shards), size, dict(store.damaged), tokens)
