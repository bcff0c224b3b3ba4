"""Data of others -> a manifest: WebDataset shards, and what Hugging Face `datasets` reads and writes.

WebDataset: tar files in which neighbours with one name are one sample: `00042.jpg`, `00042.txt`, `00042.json`. Arrow
and Parquet: what `save_to_disk` and the hub hold. The media of both are unpacked beside the manifest. Folders:
`metadata.jsonl` or `metadata.csv` with a `file_name` in every row (ImageFolder, VideoFolder, AudioFolder); the media
stay where they are. Rows are written as they are read, so that a data set may be larger than the memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from epalm.data.arrow_files import SUFFIXES as ARROW_SUFFIXES
from epalm.data.arrow_files import ArrowRow, has_arrow_files, read_arrow
from epalm.data.extracted_media import ExtractedMedia
from epalm.data.import_report import ImportReport
from epalm.data.manifest import write_manifest
from epalm.data.media_finder import MediaFinder
from epalm.data.metadata_tables import TableRow, find_tables, read_table
from epalm.data.rows import Row
from epalm.data.system_files import files_below, is_system_file
from epalm.data.text_fields import FIELDS, Texts, read_texts
from epalm.data.webdataset import find_shards, read_shards
from epalm.errors import ConfigError, DataError
from epalm.media.modality import modality_of
from epalm.media.suffixes import MODALITY_OF
from epalm.metrics.printed_lists import is_printed_list

_NO_FILE = "its file is not there"
_EMPTY = "its file is empty"
_ARCHIVES = (".zst", ".zip", ".7z", ".rar", ".lz4", ".gz")
"""Endings of what must be unpacked first."""


def import_data(source: Path, output: Path, split: str | None = None) -> ImportReport:
    """Write a manifest of what is in `source`.

    Args:
        source: a directory of `.tar` shards, one shard, a directory with `metadata.jsonl` or `metadata.csv`, a
            directory of Arrow or Parquet files, or one such file.
        output: the manifest; media out of shards and tables go into a directory beside it, named after it.
        split: of Arrow and Parquet files, where there are several.

    Raises:
        ConfigError: `output` leaves no name for the directory of media.
        DataError: there is nothing of the kind, a file is damaged, or no sample can be used. Nothing is left of what
            was unpacked.
    """
    if not source.exists():
        raise DataError(f"{source}: no such file or directory")
    report, unpacked = ImportReport(), ExtractedMedia(output.with_suffix(""))
    try:
        rows = report.counted(_samples(source, output, split, unpacked, report))
        first = next(rows, None)
        if first is None:
            raise DataError(f"{source}: no sample can be used: {report.as_text()}")
        write_manifest(chain([first], rows), output)
    except BaseException:
        unpacked.discard()
        raise
    return report


def _samples(
    source: Path, output: Path, split: str | None, unpacked: ExtractedMedia, report: ImportReport
) -> Iterator[Row | str]:
    """Rows of whatever is there, or why there is none."""
    tables = find_tables(source, report) if source.is_dir() else []
    shards = find_shards(source, report)
    if not tables and not shards and has_arrow_files(source):
        _check_output(output, source)
        return _from_arrow(source, unpacked, split, report)
    if split is not None:
        raise DataError(f"{source}: --split is for Arrow and Parquet files, and there are none; leave it out")
    if tables:
        for shard in shards:
            report.note("shards were not read, because there is metadata of files", shard.name)
        return _from_tables(tables, report)
    if shards:
        _check_output(output, source)
        return _from_shards(shards, unpacked, report)
    packed = _packed(source)
    if packed is not None:
        raise DataError(f"{source}: {packed} is packed in a way that is not read here; unpack it first")
    raise DataError(f"{source}: holds neither .tar shards nor metadata.jsonl, metadata.csv, .arrow or .parquet files")


def _packed(source: Path) -> str | None:
    """The name of an archive that would have to be unpacked."""
    paths = sorted(source.iterdir()) if source.is_dir() else [source]
    return next((path.name for path in paths if path.suffix.lower() in _ARCHIVES), None)


def _check_output(output: Path, source: Path) -> None:
    """See that there is a name for the directory that media are unpacked to."""
    folder = output.with_suffix("")
    if folder == output:
        raise ConfigError(
            f"--output: {output} has no file extension; write {output}.jsonl, so that {output} can hold the media"
        )
    if folder.absolute() == source.absolute():
        raise ConfigError(f"--output: media would be put into {source}, which is read; give another name")


def _from_tables(tables: list[Path], report: ImportReport) -> Iterator[Row | str]:
    finder = MediaFinder()
    rows = (row for table in tables for row in read_table(table))
    for number, row in enumerate(rows, start=1):
        yield _row_of_table(row, str(number), finder, report)


def _row_of_table(row: TableRow, name: str, finder: MediaFinder, report: ImportReport) -> Row | str:
    modality_by_name = MODALITY_OF.get(Path(row.file_name).suffix.lower())
    if modality_by_name is None:
        return "names no media file"
    if is_system_file(row.file_name):
        report.hide(row.file_name)
        return "names what an operating system left"
    path = _found(row.folder, row.file_name, row.place, finder, report)
    if path is None or not path.stat().st_size:
        return _NO_FILE if path is None else _EMPTY
    texts = read_texts(row.fields)
    if isinstance(texts, str):
        return texts
    return _row({modality_of(path) or modality_by_name: path}, texts, name, row.place, report)


def _from_shards(shards: list[Path], unpacked: ExtractedMedia, report: ImportReport) -> Iterator[Row | str]:
    for sample in read_shards(shards, unpacked, report):
        texts = read_texts(sample.fields)
        if sample.media and not sample.is_empty and isinstance(texts, Texts):
            yield _row(sample.media, texts, sample.name, sample.name, report)
            continue
        for path in sample.media.values():
            unpacked.remove(path)
        yield _EMPTY if sample.is_empty else texts if sample.media and isinstance(texts, str) else "has no media file"


def _from_arrow(source: Path, unpacked: ExtractedMedia, split: str | None, report: ImportReport) -> Iterator[Row | str]:
    for path in files_below(source) if source.is_dir() else ():
        if path.suffix in ARROW_SUFFIXES and is_system_file(path.relative_to(source).as_posix()):
            report.hide(path.name)
    finder = MediaFinder()
    for row in read_arrow(source, FIELDS, split):
        texts = read_texts(row.fields)
        if isinstance(texts, str):
            yield texts
        elif all(value is None for value in row.media.values()):
            yield "has nothing to perceive"
        elif any(isinstance(value, list) and len(value) != 1 for value in row.media.values()):
            yield "brings several of a kind, or none"
        else:
            media = _media_of(row, unpacked, finder, report)
            yield media if isinstance(media, str) else _row(media, texts, row.name, f"row {row.name}", report)


def _media_of(
    row: ArrowRow, unpacked: ExtractedMedia, finder: MediaFinder, report: ImportReport
) -> dict[str, Path] | str:
    """Files with what a row holds, or those that it names; or what is wrong with one of these."""
    media: dict[str, Path] = {}
    for modality, cell in row.media.items():
        value = cell[0] if isinstance(cell, list) else cell
        if value is None:
            continue
        content, name = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, value)
        if isinstance(content, bytes):
            if not content:
                return _EMPTY
            media[modality] = unpacked.put(content, modality, name if isinstance(name, str) else None)
        else:
            place = f"row {row.name}"
            path = _found(row.folder, name, place, finder, report) if isinstance(name, str) and name else None
            if path is None:
                return _NO_FILE
            media[modality] = path
    return media


def _found(folder: Path, written: str, place: str, finder: MediaFinder, report: ImportReport) -> Path | None:
    """The file that is named, if it is there; how it is spelt otherwise, or what is near, goes into the report."""
    match = finder.find(folder, written)
    if match is None:
        hint = finder.hint(folder, written)
        if hint:
            report.note("missing files have a near one", f"{place}: {hint}")
        return None
    if match.difference:
        report.note("files found under another spelling of their path", f"'{written}' ({place}) has {match.difference}")
    return match.path


def _row(media: dict[str, Path], texts: Texts, name: str, place: str, report: ImportReport) -> Row:
    printed = next(filter(is_printed_list, texts.targets), None)
    if printed is not None:
        report.note(
            "captions or answers are one text with a printed list in it; write a list instead", f"{printed} ({place})"
        )
    return Row(media, texts.question, texts.targets, id=name)
