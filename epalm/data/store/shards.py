"""One shard of a feature store: keys and features in one safetensors file, written whole or not at all.

Tensors: `features` (N, ...) and `keys` (N, 16) of uint8; metadata: `checksum`, the CRC-32 of both. Anything that reads
safetensors reads a shard. A shard never changes once it has its name.
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
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from epalm.data.store.keys import KEY_BYTES
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
    """Of one item's features."""
    keys: np.ndarray
    """(N, 2) of uint64."""
    start: int
    """Where the features begin in the file, in bytes."""
    keys_start: int
    """Where the keys begin."""
    checksum: str

    def __len__(self) -> int:
        return len(self.keys)

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
        if _read_at(file, self.start + row * len(into), into) != len(into):
            raise DamagedShardError(f"{self.path}: is shorter than it was")

    def is_whole(self) -> bool:
        """Whether the file's bytes still have the checksum they were written with."""
        left, crc = len(self) * math.prod(self.shape) * _RAW[self.dtype].itemsize, 0
        try:
            with self.open() as file:
                file.seek(self.start)
                while left and (part := file.read(min(left, _AT_ONCE))):
                    left -= len(part)
                    crc = zlib.crc32(part, crc)
        except OSError:
            return False
        return not left and _hexadecimal(zlib.crc32(self.keys.tobytes(), crc)) == self.checksum


def _read_at(file: FileIO, start: int, into: memoryview) -> int:
    """How many bytes could be read from there on."""
    if _CAN_READ_AT:
        return os.preadv(file.fileno(), [into], start)
    file.seek(start)
    return file.readinto(into)


def raw_dtype(dtype: str) -> np.dtype[Any]:
    """Whole numbers of as many bits as `dtype` has."""
    return _RAW[dtype]


def checksum_of(features: memoryview | bytes, keys: bytes) -> str:
    """CRC-32 of features and keys, in 8 hexadecimal digits."""
    return _hexadecimal(zlib.crc32(keys, zlib.crc32(features)))


def _hexadecimal(crc: int) -> str:
    return f"{crc:08x}"


def write_shard(path: Path, keys: np.ndarray, features: Tensor) -> Shard:
    """Write a shard beside its place, to the disk, then give it its name.

    Args:
        path: of the shard.
        keys: (N, 2) of uint64.
        features: (N, ...), of one of `DTYPES`.

    Raises:
        UnwritableError: it cannot be written.
    """
    tensors = {"features": features.contiguous(), "keys": torch.from_numpy(keys.view(np.uint8).copy())}
    raw = tensors["features"].reshape(-1).view(torch.uint8).numpy()
    data = save(tensors, {"checksum": checksum_of(raw.data, keys.tobytes())})
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
            features, of_keys = header["features"], header["keys"]
            start, end = (8 + length + int(offset) for offset in features["data_offsets"])
            keys_start, keys_end = (8 + length + int(offset) for offset in of_keys["data_offsets"])
            if size != max(end, keys_end):
                raise DamagedShardError(f"{path}: {size} bytes long, not {max(end, keys_end)}")
            count, *shape = (int(number) for number in features["shape"])
            dtype, checksum = _CODES[features["dtype"]], str(header["__metadata__"]["checksum"])
            file.seek(keys_start)
            keys = np.frombuffer(file.read(keys_end - keys_start), "<u8").reshape(-1, 2)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedShardError(f"{path}: {' '.join(str(error).split())}") from None
    wanted = count * math.prod(shape) * _RAW[dtype].itemsize
    if (end - start, keys_end - keys_start, len(keys)) != (wanted, count * KEY_BYTES, count):
        raise DamagedShardError(f"{path}: its header is damaged")
    return Shard(path, dtype, tuple(shape), keys, start, keys_start, checksum)
