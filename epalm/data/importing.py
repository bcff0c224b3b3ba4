"""Data of others -> a manifest: WebDataset shards, and what Hugging Face `datasets` reads and writes.

WebDataset: tar files in which neighbours with one name are one sample: `00042.jpg`, `00042.txt`, `00042.json`. Arrow
and Parquet: what `save_to_disk` and the hub hold. The media of both are unpacked beside the manifest. Folders:
`metadata.jsonl` or `metadata.csv` with a `file_name` in every row (ImageFolder, VideoFolder, AudioFolder); the media
stay where they are. Rows are written as they are read, so that a data set may be larger than the memory.
"""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any

from epalm.data.arrow_files import ArrowRow, has_arrow_files, read_arrow
from epalm.data.extracted_media import ExtractedMedia
from epalm.data.manifest import write_manifest
from epalm.data.published.files import captions, one_line, read_csv, read_json
from epalm.data.published.folder import SUFFIXES
from epalm.data.rows import Row
from epalm.errors import ConfigError, DataError

_CAPTIONS = ("captions", "caption", "text", "txt")
_ANSWERS = ("answers", "answer")
_MODALITY = {suffix: modality for modality in ("audio", "video", "image") for suffix in SUFFIXES[modality]}
"""Of a file by its suffix; a film is a video, though it may be listened to."""
_TEXTS = (*_CAPTIONS, *_ANSWERS, "raw")
"""Of a caption or an answer that is an object, such as {"answer": "a dog", "answer_id": 1}."""
_NO_FILE = "its file is not there"
_NO_TEXT = "has no caption, and no question with an answer"
_EXAMPLE = '{"file_name": "a.jpg", "text": "..."}'
_UNSAFE = re.compile(r"[^\w.-]+")


@dataclass
class Imported:
    """What came of it."""

    rows: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Reason -> samples left out for it."""

    def counted(self, rows: Iterable[Row | str]) -> Iterator[Row]:
        """The rows; of what is left out there is the reason instead."""
        for row in rows:
            if isinstance(row, Row):
                self.rows += 1
                yield row
            else:
                self.left_out[row] += 1

    def as_text(self) -> str:
        """One line."""
        return "; ".join([f"{self.rows} rows", *(f"{count} left out: {why}" for why, count in self.left_out.items())])


def import_data(source: Path, output: Path, split: str | None = None) -> Imported:
    """Write a manifest of what is in `source`.

    Args:
        source: a directory of `.tar` shards, one shard, a directory with `metadata.jsonl` or `metadata.csv`, a
            directory of Arrow or Parquet files, or one such file.
        output: the manifest; media out of shards and tables go into a directory beside it, named after it.
        split: of Arrow and Parquet files, where there are several.

    Raises:
        ConfigError: `output` leaves no name for the directory of media.
        DataError: there is nothing of the kind, a file is damaged, or no sample can be used.
    """
    if not source.exists():
        raise DataError(f"{source}: no such file or directory")
    found = _found(source, output, split)
    result = Imported()
    rows = result.counted(found)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{source}: no sample can be used: {result.as_text()}")
    write_manifest(chain([first], rows), output)
    return result


def _found(source: Path, output: Path, split: str | None) -> Iterator[Row | str]:
    """Rows of whatever is there."""
    is_folder = source.is_dir()
    tables = sorted([*source.rglob("metadata.jsonl"), *source.rglob("metadata.csv")]) if is_folder else []
    shards = sorted(source.glob("*.tar")) if is_folder else [source] if source.suffix == ".tar" else []
    if not tables and not shards and has_arrow_files(source):
        return _from_arrow(source, _folder_of(output, source), split)
    if split is not None:
        raise DataError(f"{source}: --split is of Arrow and Parquet files, and there are none; leave it out")
    if tables:
        return _from_tables(tables)
    if shards:
        return _from_shards(shards, _folder_of(output, source))
    raise DataError(f"{source}: holds neither .tar shards nor metadata.jsonl, metadata.csv, .arrow or .parquet files")


def _folder_of(output: Path, source: Path) -> Path:
    """Where media are unpacked to."""
    folder = output.with_suffix("")
    if folder == output:
        raise ConfigError(
            f"--output: {output} has no ending; write {output}.jsonl, so that {output} can hold the media"
        )
    if folder.absolute() == source.absolute():
        raise ConfigError(f"--output: media would be put into {source}, which is read; give another name")
    return folder


def _from_tables(tables: list[Path]) -> Iterator[Row | str]:
    number = 0
    for table in tables:
        for entry in _entries(table):
            path = table.parent / str(entry.get("file_name", ""))
            modality = _MODALITY.get(path.suffix.lower())
            number += 1
            if modality is None or not path.is_file():
                yield _NO_FILE if modality else "names no media file"
            elif (texts := _question_and_targets(entry)) is None:
                yield _NO_TEXT
            else:
                yield Row({modality: path}, *texts, id=str(number))


def _entries(table: Path) -> list[Mapping[str, Any]]:
    """What a table says of each file."""
    if table.suffix == ".csv":
        return list(read_csv(table))
    content = read_json(table)
    entries = [content] if isinstance(content, dict) else content  # one line is JSON, too
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"{table}: not every line is an object; write lines such as {_EXAMPLE}")
    return entries


def _from_shards(shards: list[Path], folder: Path) -> Iterator[Row | str]:
    for shard in shards:
        place = folder / shard.stem
        for key, media, fields in _samples(shard, place):
            texts = _question_and_targets(fields)
            if media and texts is not None:
                yield Row(dict(media), *texts, id=f"{shard.stem}/{key}")
                continue
            yield _NO_TEXT if media else "has no media file"
            for path in media.values():
                path.unlink()


def _from_arrow(source: Path, folder: Path, split: str | None) -> Iterator[Row | str]:
    unpacked = ExtractedMedia(folder)
    for row in read_arrow(source, ("question", *_CAPTIONS, *_ANSWERS), split):
        texts = _question_and_targets(row.fields)
        if texts is None:
            yield _NO_TEXT
        elif all(value is None for value in row.media.values()):
            yield "has nothing to perceive"
        elif any(isinstance(value, list) and len(value) != 1 for value in row.media.values()):
            yield "brings several of a kind, or none"
        elif (media := _media_of(row, unpacked)) is None:
            yield _NO_FILE
        else:
            yield Row(media, *texts, id=row.name)


def _media_of(row: ArrowRow, unpacked: ExtractedMedia) -> dict[str, Path] | None:
    """Files with what a row holds, or those that it names; None where one of these is not there."""
    media: dict[str, Path] = {}
    for modality, cell in row.media.items():
        value = cell[0] if isinstance(cell, list) else cell
        if value is None:
            continue
        content, name = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, value)
        if isinstance(content, bytes):
            media[modality] = unpacked.put(content, modality, name if isinstance(name, str) else None)
        elif isinstance(name, str) and (row.folder / name).is_file():
            media[modality] = row.folder / name
        else:
            return None
    return media


def _samples(shard: Path, folder: Path) -> Iterator[tuple[str, dict[str, Path], dict[str, Any]]]:
    """Name, unpacked media and fields of each sample; nothing is written outside `folder`, whatever names say."""
    key: str | None = None
    media: dict[str, Path] = {}
    fields: dict[str, Any] = {}
    keys: set[str] = set()
    taken: set[Path] = set()
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
                    if here in keys:
                        raise DataError(
                            f"{shard}: sample {here} comes back after others; pack the files of a sample side by side, "
                            "as `tar --sort=name` does, and give each sample a name of its own"
                        )
                    keys.add(here)
                    key, media, fields = here, {}, {}
                content = archive.extractfile(member)
                assert content is not None  # it is a file
                modality = _MODALITY.get(f".{suffix.lower()}")
                if modality is not None:
                    folder.mkdir(parents=True, exist_ok=True)
                    if modality in media:
                        raise DataError(f"{shard}: sample {key} has two files of {modality}; keep one")
                    media[modality] = _free(folder / f"{_UNSAFE.sub('_', here)}.{suffix.lower()}", taken)
                    with media[modality].open("wb") as file:
                        shutil.copyfileobj(content, file)
                elif suffix == "json":
                    content_of_json = json.loads(content.read())
                    if not isinstance(content_of_json, dict):
                        raise DataError(
                            f'{shard}: the JSON of sample {key} is no object; write one, such as {{"caption": "..."}}, '
                            "or the caption alone into a .txt file"
                        )
                    fields |= content_of_json
                elif suffix == "txt":
                    fields["txt"] = content.read().decode("utf-8")
        if key is not None:
            yield key, media, fields
    except (tarfile.TarError, ValueError, TypeError, EOFError) as error:
        raise DataError(f"{shard}: is damaged at sample {key} ({error})") from None
    except OSError as error:
        raise DataError(f"{shard}: cannot be unpacked: {error.strerror or error}") from None


def _free(path: Path, taken: set[Path]) -> Path:
    """`path`, or one like it where another sample has that name once its odd signs are gone; it is taken then."""
    others = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(2))
    free = next(candidate for candidate in chain([path], others) if candidate not in taken)
    taken.add(free)
    return free


def _question_and_targets(fields: Mapping[str, Any]) -> tuple[str | None, tuple[str, ...]] | None:
    """Question, if any, and captions or answers; None where the fields say nothing to learn."""
    question = next(iter(_texts(fields.get("question"))), None)
    names = _CAPTIONS if question is None else _ANSWERS
    found = (captions(_texts(fields.get(name))) for name in names)
    targets = next(filter(None, found), ())
    return (None if question is None else one_line(question), targets) if targets else None


def _texts(value: Any) -> list[str]:
    """The texts in a field: one, a list, objects that hold them, or a number."""
    if isinstance(value, list):
        return [text for part in value for text in _texts(part)]
    if isinstance(value, dict):
        return next(([*_texts(value[name])] for name in _TEXTS if name in value), [])
    if isinstance(value, bool) or value is None:
        return []
    return [str(value)]
