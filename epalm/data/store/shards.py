"""One shard of a feature store: keys and features in one safetensors file, written whole or not at all.

Tensors: `features` (N, ...) and `keys` (N, 16) of uint8; metadata: `checksum`, the CRC-32 of both. Anything that reads
safetensors reads a shard. A shard never changes once it has its name.

Where items differ in their number of tokens, `features` are (T, K, E), all tokens of one item after those of the one
before, and `lengths` (N,) of int64 tell how many each has; the checksum is that of features, lengths and keys.
"""

from __future__ import annotations

import json
import math
import os
import socket
import threading
import zlib
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from epalm.errors import DataError

ENDING = ".safetensors"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""What features may be stored in."""
_CODES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_RAW: dict[str, np.dtype[Any]] = {"float32": np.dtype("<i4"), "float16": np.dtype("<i2"), "bfloat16": np.dtype("<i2")}
"""As which bits are moved: numpy knows no bfloat16, and whole numbers are never touched."""


_CAN_READ_AT = hasattr(os, "preadv")
_AT_ONCE = 1 << 24
"""Bytes that are read at once to see whether all are what they were."""


class DamagedShardError(Exception):
    """A file is no shard, or not all of one."""


class UnwritableError(DataError):
    """A file of a store cannot be written.

    Args:
        folder: where it was to be.
        reason: what the system says.
    """

    def __init__(self, folder: Path, reason: str | None) -> None:
        super().__init__(folder, reason)  # both, so that other processes can be told
        self.folder, self.reason = folder, reason

    def __str__(self) -> str:
        return (
            f"{self.folder}: features cannot be stored: {self.reason}; name another place (data.store), or none "
            "(--no-store)"
        )


@dataclass(frozen=True, eq=False)
class Shard:
    """A shard as its header tells."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    """Of one item's features; (K, -1, E) where items differ in their number of tokens."""
    keys: np.ndarray
    """(N, 2) of uint64."""
    start: int
    """Where the features begin in the file, in bytes."""
    keys_start: int
    """Where the keys begin."""
    checksum: str
    lengths: np.ndarray | None = None
    """(N,) of int64, the tokens of each item, where they differ."""

    def __len__(self) -> int:
        return len(self.keys)

    def length(self, row: int) -> int:
        """How many tokens one item has, where they differ."""
        assert self.lengths is not None
        return int(self.lengths[row])

    def open(self) -> FileIO:
        """The file, to be read from anywhere in it."""
        return FileIO(self.path)

    def read(self, file: FileIO, row: int, into: memoryview) -> None:
        """Read the features of one item.

        Args:
            file: what `open` gave.
            row: of the item.
            into: as many bytes as its features have.

        Raises:
            DamagedShardError: the file ends before they do.
        """
        before = row * len(into) if self.lengths is None else int(self._first_tokens[row]) * self._token_bytes
        if _read_at(file, self.start + before, into) != len(into):
            raise DamagedShardError(f"{self.path}: is shorter than it was")

    def is_whole(self) -> bool:
        """Whether the file's bytes still have the checksum they were written with."""
        items = len(self) if self.lengths is None else int(self.lengths.sum())
        left, crc = items * self._token_bytes, 0
        try:
            with self.open() as file:
                file.seek(self.start)
                while left and (part := file.read(min(left, _AT_ONCE))):
                    left -= len(part)
                    crc = zlib.crc32(part, crc)
        except OSError:
            return False
        return not left and _hexadecimal(zlib.crc32(_behind(self.keys, self.lengths), crc)) == self.checksum

    @cached_property
    def _first_tokens(self) -> np.ndarray:
        """(N + 1,): how many tokens stand before those of each item."""
        assert self.lengths is not None
        return np.concatenate(([0], np.cumsum(self.lengths)))

    @property
    def _token_bytes(self) -> int:
        """Of what the first dimension of the features counts: a token where items differ in them, else an item."""
        return abs(math.prod(self.shape)) * _RAW[self.dtype].itemsize


def _read_at(file: FileIO, start: int, into: memoryview) -> int:
    """How many bytes could be read from there on."""
    if _CAN_READ_AT:
        return os.preadv(file.fileno(), [into], start)
    file.seek(start)
    return file.readinto(into)


def raw_dtype(dtype: str) -> np.dtype[Any]:
    """Whole numbers of as many bits as `dtype` has."""
    return _RAW[dtype]


def checksum_of(features: memoryview | bytes, behind: bytes) -> str:
    """CRC-32 of features and what follows them, the keys, in 8 hexadecimal digits."""
    return _hexadecimal(zlib.crc32(behind, zlib.crc32(features)))


def _hexadecimal(crc: int) -> str:
    return f"{crc:08x}"


def _behind(keys: np.ndarray, lengths: np.ndarray | None) -> bytes:
    """What the checksum covers behind the features."""
    return (b"" if lengths is None else lengths.tobytes()) + keys.tobytes()


def write_shard(path: Path, keys: np.ndarray, features: Tensor, lengths: np.ndarray | None = None) -> Shard:
    """Write a shard beside its place, to the disk, then give it its name.

    Args:
        path: of the shard.
        keys: (N, 2) of uint64.
        features: (N, ...), of one of `DTYPES`; with `lengths` (T, K, E).
        lengths: (N,) of int64, the tokens of each item, where they differ.

    Raises:
        UnwritableError: it cannot be written.
    """
    tensors = {"features": features.contiguous(), "keys": torch.from_numpy(keys.view(np.uint8).copy())}
    if lengths is not None:
        tensors["lengths"] = torch.from_numpy(lengths.astype("<i8"))
    raw = tensors["features"].reshape(-1).view(torch.uint8).numpy()
    data = save(tensors, {"checksum": checksum_of(raw.data, _behind(keys, lengths))})
    write_atomically(path, data)
    return read_shard(path)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file of a store so that it is there as a whole or not at all, even if the machine stops.

    Raises:
        UnwritableError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise UnwritableError(path.parent, error.strerror) from None
    finally:
        with suppress(OSError):
            part.unlink()


def read_shard(path: Path) -> Shard:
    """What the header of a shard tells, and its keys; the features are left where they are.

    Raises:
        DamagedShardError: it is no shard, or not all of one.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            size = os.fstat(file.fileno()).st_size
            if not 0 < length <= size - 8:
                raise DamagedShardError(f"{path}: its header is damaged")
            header = json.loads(file.read(length))
            names = ("features", "keys", *(("lengths",) if "lengths" in header else ()))
            places = {name: [8 + length + int(at) for at in header[name]["data_offsets"]] for name in names}
            if size != max(map(max, places.values())):
                raise DamagedShardError(f"{path}: {size} bytes long, not {max(map(max, places.values()))}")
            count, *shape = (int(number) for number in header["features"]["shape"])
            dtype, checksum = _CODES[header["features"]["dtype"]], str(header["__metadata__"]["checksum"])
            numbers = {}
            for name, (first, last) in places.items():
                if name != "features":
                    file.seek(first)
                    numbers[name] = np.frombuffer(file.read(last - first), "<i8" if name == "lengths" else "<u8")
            keys, lengths = numbers["keys"].reshape(-1, 2), numbers.get("lengths")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedShardError(f"{path}: {' '.join(str(error).split())}") from None
    start, end = places["features"]
    items = count if lengths is None else len(lengths)
    all_there = end - start == count * math.prod(shape) * _RAW[dtype].itemsize and len(keys) == items
    if lengths is not None:
        all_there &= len(shape) == 2 and int(lengths.sum()) == count and bool((lengths > 0).all())
        shape.insert(1, -1)
    if not all_there:
        raise DamagedShardError(f"{path}: its header is damaged")
    return Shard(path, dtype, tuple(shape), keys, start, places["keys"][0], checksum, lengths)
