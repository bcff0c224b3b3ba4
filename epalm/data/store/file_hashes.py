"""Which content a file holds: told by where it lies and when it was last touched, else by reading it.

Features belong to the content of a file, by its SHA-256: a file that is moved, copied or unpacked anew keeps its
features, one that is replaced does not get those of the old one. Reading a million files to learn what they are would
take as long as a short training, so it is remembered which content was found at which absolute path with which size,
time of change and time of status change. Any other of these, and the file is read again.

In `places/` of a store: arrays (N, 4) of uint64, place and content, in files named by their own SHA-256.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from epalm.data.store.keys import KEY_BYTES, KeyIndex, as_keys, key_of
from epalm.data.store.shards import write_atomically
from epalm.errors import DataError
from epalm.runtime.processes import Processes

_AT_ONCE = 4096
"""Files that a process identifies in one go."""
_THREADS = 8
_BLOCK = 1 << 20


def place_of(path: Path) -> bytes | None:
    """The key of a file's place and times; None where there is no file."""
    try:
        found = os.stat(path)  # noqa: PTH116  a third of the time
    except (OSError, ValueError):
        return None
    status = f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"
    return key_of(os.fsencode(os.path.abspath(path)), status.encode())  # noqa: PTH100  links are told by their own names


class FileHashes:
    """What is remembered below `folder`, which is made when there is something to remember."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: dict[Path, bytes] = {}
        tables = [table for path in sorted(folder.glob("*.npy")) if (table := _read(path)) is not None]
        both = np.concatenate(tables) if tables else np.empty((0, 4), dtype="<u8")
        self._index, self._contents = KeyIndex(both[:, :2]), both[:, 2:]

    def identify(
        self, places: Mapping[Path, bytes | None], processes: Processes, on_progress: Callable[[int, int], None]
    ) -> dict[Path, bytes]:
        """The content keys of files; those that cannot be read are left out.

        Args:
            places: what `place_of` says of each file; the same files in every process, each of which reads its share.
            processes: those that share the work.
            on_progress: called with how many files have been read, and how many were to be.
        """
        found = self._index.find(as_keys(place or bytes(KEY_BYTES) for place in places.values())).tolist()
        known = {
            path: self._contents[at].tobytes()
            for (path, place), at in zip(places.items(), found, strict=True)
            if place is not None and at >= 0
        }
        files = list(places)
        contents: dict[Path, bytes] = {}
        done, total = 0, len(files) - len(known)
        shares = [files[first : first + _AT_ONCE] for first in range(0, len(files), _AT_ONCE)]
        with ThreadPoolExecutor(_THREADS) as readers:
            for first in range(0, len(shares), processes.count):
                now = shares[first : first + processes.count]
                mine = now[processes.rank] if processes.rank < len(now) else []
                strange = [path for path in mine if path not in known]
                read: dict[Path, bytes] = {}
                for number, (path, key) in enumerate(zip(strange, readers.map(content_of, strange), strict=True), 1):
                    if key:
                        read[path] = key
                    on_progress(done + number, total)
                self._remember([(place, key) for path, key in read.items() if (place := places[path])])
                found_here = [known.get(path) or read.get(path) for path in mine]
                # Machines may see other times of one file, and so know other files: all go by what one of them says.
                for theirs, keys in zip(now, processes.share(found_here), strict=False):
                    contents.update((path, key) for path, key in zip(theirs, keys, strict=True) if key)
                here = sum(path not in known for share in now for path in share)
                done += here
                if here > len(strange):
                    on_progress(done, total)
        return contents

    def _remember(self, read: Sequence[tuple[bytes, bytes]]) -> None:
        if not read:
            return
        table = np.concatenate([as_keys(place for place, _ in read), as_keys(content for _, content in read)], axis=1)
        data = io.BytesIO()
        np.save(data, table)
        with suppress(DataError):  # a store that is only read is of use as well
            write_atomically(self._folder / f"{_name(data.getvalue())}.npy", data.getvalue())


def content_of(path: Path) -> bytes | None:
    """The key of what is in a file; None where it cannot be read."""
    found = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as file:
            while block := file.read(_BLOCK):
                found.update(block)
    except (OSError, ValueError):
        return None
    return found.digest()[:KEY_BYTES]


def _name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _read(path: Path) -> np.ndarray | None:
    """A table (N, 4); None where it is damaged: its files are read again."""
    try:
        data = path.read_bytes()
        table = np.load(io.BytesIO(data), allow_pickle=False) if _name(data) == path.stem else None
    except (OSError, ValueError):
        return None
    return table
