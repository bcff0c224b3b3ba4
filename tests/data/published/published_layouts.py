"""Small directories laid out as published data sets are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from epalm.data.published import Folder, PublishedSplit, get_dataset, read_split


def fill(root: Path, files: Mapping[str, Any] | None = None, media: Iterable[str] = ()) -> Path:
    """Write annotation files, texts as they are and the rest as JSON, and media files without sense."""
    for name, content in (files or {}).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    for name in media:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"media")
    return root


def read(name: str, root: Path, split: str) -> PublishedSplit:
    """One split of a data set in `root`."""
    return read_split(get_dataset(name), split, Folder(root))
