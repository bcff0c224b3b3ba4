"""Samples out of WebDataset shards: tar files in which neighbours with one name are one sample.

See `epalm.data.sample_files` for what counts as a name. Hidden files are no part of a sample. Files that are links
count as what they link to inside the shard.
"""

from __future__ import annotations

import json
import lzma
import posixpath
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from epalm.data.extracted_media import ExtractedMedia
from epalm.data.import_report import ImportReport
from epalm.data.rows import MODALITIES
from epalm.data.sample_files import TEXTS, Files, SampleFile, TwoOfAKindError, choose_files, kind_of, last_suffix
from epalm.data.strict_json import RepeatedNameError, parse_json
from epalm.data.system_files import is_system_file, lfs_advice
from epalm.errors import DataError
from epalm.media.modality import modality_of

_SHARD = re.compile(r"\.(tar|tgz|tar\.(gz|bz2|xz))$", re.IGNORECASE)
_LONGEST_TEXT = 1 << 26
"""Bytes that are read of a text: a packed shard may hold a thousand times its own size."""
_TROUBLE = (tarfile.TarError, ValueError, TypeError, EOFError, zlib.error, lzma.LZMAError)
_DOTS = "what is behind the first dot of a name is its ending; give names without other dots"


@dataclass(frozen=True)
class Sample:
    """What stands under one name in a shard."""

    name: str
    """Shard and name."""
    media: dict[str, Path]
    """Modality -> file, unpacked."""
    fields: dict[str, Any]
    """What its texts say."""
    is_empty: bool
    """A medium of it has no content."""


def find_shards(source: Path, report: ImportReport) -> list[Path]:
    """The shards in a directory, or the one that `source` is.

    Raises:
        DataError: two have one name.
    """
    shards: dict[str, Path] = {}
    for path in filter(_is_shard, sorted(source.iterdir()) if source.is_dir() else [source]):
        if is_system_file(path.name):
            report.hide(path.name)
        elif (other := shards.setdefault(_stem(path), path)) != path:
            raise DataError(f"{path}: has the same name as {other.name}; give each shard its own")
    return list(shards.values())


def read_shards(shards: Iterable[Path], unpacked: ExtractedMedia, report: ImportReport) -> Iterator[Sample]:
    """The samples of shards, one after the other; their media are unpacked into a directory of each shard's name.

    Raises:
        DataError: a shard is damaged, or a sample comes back after others or has two files of a kind.
    """
    for path in shards:
        yield from _Shard(path, unpacked, report).samples()


class _Shard:
    """A shard that is being read; nothing is written outside the directory of media, whatever names say."""

    def __init__(self, path: Path, unpacked: ExtractedMedia, report: ImportReport) -> None:
        self._path, self._unpacked, self._report = path, unpacked, report
        self._key = ""
        """Of the sample that is being read."""

    def samples(self) -> Iterator[Sample]:
        files: dict[str, SampleFile] = {}
        keys: set[str] = set()
        try:
            with self._opened() as archive:
                for name, content in self._files(archive):
                    folder, _, base = name.rpartition("/")
                    start, _, ending = base.partition(".")
                    key = posixpath.join(folder, start)
                    if key != self._key:
                        yield from self._finished(files)
                        self._key, files = key, {}
                        self._require_new(key, keys, ending)
                    if ending in files:
                        raise self._refusal(f"has two files '{base}'; keep one")
                    files[ending] = self._read(ending, content)
            yield from self._finished(files)
        except _TROUBLE as error:
            where = f" at sample {self._key}" if self._key else ""
            raise DataError(f"{self._path}: is damaged{where} ({error})") from None
        except OSError as error:
            raise DataError(f"{self._path}: cannot be unpacked: {error.strerror or error}") from None

    def _opened(self) -> tarfile.TarFile:
        try:
            return tarfile.open(self._path)
        except tarfile.ReadError:
            raise DataError(f"{self._path}: is damaged, or no tar file{lfs_advice(self._path)}") from None

    def _refusal(self, problem: str) -> DataError:
        return DataError(f"{self._path}: sample {self._key} {problem}")

    def _require_new(self, key: str, keys: set[str], ending: str) -> None:
        if key in keys:
            dots = f"; {_DOTS}" if "." in ending else ""
            raise self._refusal(
                "comes back after others; pack the files of a sample side by side, as `tar --sort=name` does, and give "
                f"each sample a name of its own{dots}"
            )
        keys.add(key)

    def _files(self, archive: tarfile.TarFile) -> Iterator[tuple[str, IO[bytes]]]:
        """Name, from the top of the shard, and content of every file that may be part of a sample."""
        for member in archive:
            if not (member.isfile() or member.islnk() or member.issym()):
                continue
            name = posixpath.normpath("/" + member.name.replace("\\", "/")).lstrip("/")
            name = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            base = name.rpartition("/")[2]
            if base.startswith(".") or is_system_file(name):
                self._report.hide(name)
            elif "." not in base:
                self._report.unread["without ending"] += 1
            else:
                try:
                    content = archive.extractfile(member)
                except (KeyError, RecursionError):  # not there; links in a circle
                    content = None
                if content is None:
                    self._report.note("links to what is no file of the shard", f"{name} -> {member.linkname}")
                else:
                    yield name, content

    def _read(self, ending: str, content: IO[bytes]) -> SampleFile:
        kind = kind_of(ending)
        if kind in TEXTS:
            text = content.read(_LONGEST_TEXT + 1)
            if len(text) > _LONGEST_TEXT:
                raise self._refusal(
                    f"has a .{ending} of more than {_LONGEST_TEXT >> 20} MiB, which is no text of a sample"
                )
            return SampleFile(kind, text=text)
        if kind is None:
            self._report.unread[last_suffix(ending)] += 1
            return SampleFile(None)
        path = self._unpacked.copy(content, _stem(self._path), self._key, f".{ending}")
        if path.stat().st_size:
            return SampleFile(modality_of(path) or kind, path=path)
        self._unpacked.remove(path)
        return SampleFile(kind)

    def _finished(self, files: Files) -> Iterator[Sample]:
        """The samples that have these files, all of one name up to the first dot."""
        if not files:
            return
        try:
            samples = choose_files(files)
        except TwoOfAKindError as error:
            dots = f"; {_DOTS}" if any("." in ending for ending in files) else ""
            raise self._refusal(f"has {error}; keep one{dots}") from None
        if len(samples) > 1:
            self._report.note("names have several dots, and were parted at the last", f"{self._key}.{min(samples)}")
        used = {id(file) for chosen in samples.values() for file in chosen.values()}
        for ending, file in files.items():
            if file.kind is not None and id(file) not in used:
                self._report.unread[f".{ending}"] += 1
                if file.path is not None:
                    self._unpacked.remove(file.path)
        for start, chosen in samples.items():
            media = {kind: file.path for kind, file in chosen.items() if kind in MODALITIES}
            yield Sample(
                name=f"{_stem(self._path)}/{self._key}{start and '.'}{start}",
                media={modality: path for modality, path in media.items() if path is not None},
                fields=self._fields(chosen),
                is_empty=None in media.values(),
            )

    def _fields(self, chosen: Files) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        if "json" in chosen:
            try:
                content = parse_json(chosen["json"].text)
            except RepeatedNameError as error:
                raise self._refusal(f"{error}, in its JSON") from None
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise self._refusal(f"has no valid JSON ({error})") from None
            if not isinstance(content, dict):
                raise self._refusal(
                    'has JSON that is no object; write one, such as {"caption": "..."}, or the caption into a .txt file'
                )
            fields |= content
        if "txt" in chosen:
            try:
                fields["txt"] = chosen["txt"].text.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise self._refusal(
                    f"has a text that is not UTF-8 (byte {error.start + 1}); save it as UTF-8"
                ) from None
        return fields


def _is_shard(path: Path) -> bool:
    return _SHARD.search(path.name) is not None


def _stem(path: Path) -> str:
    return _SHARD.sub("", path.name)
