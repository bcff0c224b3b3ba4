"""Data of others -> a manifest: WebDataset shards, and the folders of files that Hugging Face `datasets` reads.

WebDataset: tar files in which neighbours with one name are one sample: `00042.jpg`, `00042.txt`, `00042.json`. The
media are unpacked beside the manifest. Folders: `metadata.jsonl` or `metadata.csv` with a `file_name` in every row
(ImageFolder, VideoFolder, AudioFolder); the media stay where they are. Arrow and Parquet files are not read: they need
a library that nothing else here needs.
"""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from epalm.data.manifest import write_manifest
from epalm.data.published.files import captions, one_line, read_csv, read_json
from epalm.data.published.folder import SUFFIXES
from epalm.data.rows import Row
from epalm.errors import DataError

_CAPTIONS = ("captions", "caption", "text", "txt")
_ANSWERS = ("answers", "answer")
_MODALITY = {suffix: modality for modality in ("audio", "video", "image") for suffix in SUFFIXES[modality]}
"""Of a file by its suffix; a film is a video, though it may be listened to."""
_UNSAFE = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class Imported:
    """What came of it."""

    rows: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Reason -> samples left out for it."""

    def as_text(self) -> str:
        """One line."""
        return "; ".join([f"{self.rows} rows", *(f"{count} left out: {why}" for why, count in self.left_out.items())])


def import_data(source: Path, output: Path) -> Imported:
    """Write a manifest of what is in `source`.

    Args:
        source: a directory of `.tar` shards, one shard, or a directory with `metadata.jsonl` or `metadata.csv`.
        output: the manifest; media out of shards go into a directory beside it, named after it.

    Raises:
        DataError: there is nothing of the kind, a shard is damaged, or no sample can be used.
    """
    if source.is_dir() and (tables := sorted([*source.rglob("metadata.jsonl"), *source.rglob("metadata.csv")])):
        rows, left_out = _from_tables(tables)
    elif shards := sorted(source.glob("*.tar")) if source.is_dir() else [source] if source.suffix == ".tar" else []:
        rows, left_out = _from_shards(shards, output.with_suffix(""))
    else:
        raise DataError(f"{source}: holds neither .tar shards nor metadata.jsonl nor metadata.csv{_hint(source)}")
    if not rows:
        raise DataError(f"{source}: no sample can be used: {Imported(0, left_out).as_text()}")
    write_manifest(rows, output)
    return Imported(len(rows), left_out)


def _hint(source: Path) -> str:
    """What to do with a data set of Arrow or Parquet files, if that is one."""
    found = source.is_dir() and any(path.suffix in (".arrow", ".parquet") for path in source.rglob("*"))
    return "; write out its Arrow or Parquet files with the `datasets` library first" if found else ""


def _from_tables(tables: list[Path]) -> tuple[list[Row], dict[str, int]]:
    rows: list[Row] = []
    left_out: Counter[str] = Counter()
    for table in tables:
        for entry in read_json(table) if table.suffix == ".jsonl" else read_csv(table):
            path = table.parent / str(entry.get("file_name", ""))
            modality = _MODALITY.get(path.suffix.lower())
            if modality is None or not path.is_file():
                left_out["its file is not there" if modality else "names no media file"] += 1
            elif (row := _row({modality: path}, entry, str(len(rows) + 1))) is None:
                left_out["has no caption, and no question with an answer"] += 1
            else:
                rows.append(row)
    return rows, dict(left_out)


def _from_shards(shards: list[Path], folder: Path) -> tuple[list[Row], dict[str, int]]:
    rows: list[Row] = []
    left_out: Counter[str] = Counter()
    for shard in shards:
        place = folder / shard.stem
        for key, media, fields in _samples(shard, place):
            row = _row(media, fields, f"{shard.stem}/{key}") if media else None
            if row is None:
                left_out["has no caption, and no question with an answer" if media else "has no media file"] += 1
                for path in media.values():
                    path.unlink()
            else:
                rows.append(row)
    return rows, dict(left_out)


def _samples(shard: Path, folder: Path) -> Iterator[tuple[str, dict[str, Path], dict[str, Any]]]:
    """Name, unpacked media and fields of each sample; nothing is written outside `folder`, whatever names say."""
    key: str | None = None
    media: dict[str, Path] = {}
    fields: dict[str, Any] = {}
    try:
        with tarfile.open(shard) as archive:
            for member in archive:
                if not member.isfile():
                    continue
                directory, _, name = member.name.rpartition("/")
                start, _, suffix = name.partition(".")
                if (here := f"{directory}/{start}".lstrip("./")) != key:
                    if key is not None:
                        yield key, media, fields
                    key, media, fields = here, {}, {}
                content = archive.extractfile(member)
                assert content is not None  # it is a file
                modality = _MODALITY.get(f".{suffix.lower()}")
                if modality is not None:
                    folder.mkdir(parents=True, exist_ok=True)
                    media[modality] = folder / f"{_UNSAFE.sub('_', here)}.{suffix.lower()}"
                    with media[modality].open("wb") as file:
                        shutil.copyfileobj(content, file)
                elif suffix == "json":
                    fields |= json.loads(content.read())
                elif suffix == "txt":
                    fields["txt"] = content.read().decode("utf-8")
        if key is not None:
            yield key, media, fields
    except (tarfile.TarError, ValueError, TypeError, EOFError) as error:
        raise DataError(f"{shard}: is damaged at sample {key} ({error})") from None
    except OSError as error:
        raise DataError(f"{shard}: cannot be unpacked: {error.strerror or error}") from None


def _row(media: Mapping[str, Path], fields: Mapping[str, Any], name: str) -> Row | None:
    """A row of what the fields say, or None where they say nothing to learn."""
    question = fields.get("question")
    names = _CAPTIONS if question is None else _ANSWERS
    value = next((fields[key] for key in names if fields.get(key)), ())
    targets = captions([value] if isinstance(value, str) else map(str, value))
    if not targets:
        return None
    return Row(dict(media), None if question is None else one_line(question), targets, id=name)
