"""The files of a checkpoint, looked at before anything reads them: which of them is not whole, and what to do.

Of weights only the header and the size are read, so that this costs nothing beside loading them.
"""

from __future__ import annotations

import importlib.util
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from epalm.errors import is_lfs_pointer

ADAPTER_CONFIG = "adapter_config.json"
"""The configuration of an adapter: of one by epalm, and of one by PEFT."""
_MODEL_CONFIG = "config.json"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""What transformers takes the first of that is there."""
_ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_PAGES = (b"<!doctype html", b"<html")
_LONGEST_HEADER = 100_000_000  # bytes; safetensors itself reads none that is longer
_GGUF = b"GGUF"
_AGAIN = "download it again"


def damage(path: Path) -> str | None:
    """Why a file cannot be what its name says, and what to do about it; None where nothing speaks against it."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(64)
        if is_lfs_pointer(head):
            return "is a Git LFS pointer and not the file itself; run `git lfs pull` where it lies, or download it"
        if not size:
            return f"is empty; {_AGAIN}"
        if head.lstrip().lower().startswith(_PAGES):
            return f"is a web page and not the file itself; {_AGAIN}, as a file"
        if path.suffix == ".safetensors":
            return _damage_of_safetensors(path, head, size)
        if path.suffix in (".bin", ".pth"):
            return _damage_of_pickle(path, head)
        if path.suffix == ".json":
            return _read_json(path)[1]
        if path.suffix.lower() == ".gguf" and (head[:4] != _GGUF or head[4] not in (2, 3)):
            return f"is no GGUF file of version 2 or 3; {_AGAIN}"
    except FileNotFoundError:
        return f"is {'a link to a file that is ' if path.is_symlink() else ''}not there; {_AGAIN}"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return None


def first_damage(folder: Path, names: Iterable[str] = (), *, weights: bool = True) -> str | None:
    """What is wrong with the first damaged file of a model in a directory, with its name; None where nothing is.

    Args:
        folder: the directory of a model as transformers saves it.
        names: other files of it that will be read if they are there, before the weights.
        weights: whether those will be read.
    """
    weight_files = _first_there(folder, (_explicit_weights(folder), *_WEIGHTS)) if weights else ()
    for name in (*names, *weight_files):
        path = folder / name
        if not path.exists() and not path.is_symlink():
            continue
        if reason := damage(path):
            return f"{name} {reason}"
        if name.endswith(".index.json") and (reason := _damage_of_shards(path)):
            return reason
    return None


def not_a_model(folder: Path) -> str | None:
    """What is in a directory that holds no model of transformers, and what to do; None where it may hold one."""
    if adapter := adapter_in(folder):
        return adapter
    if (folder / _MODEL_CONFIG).exists():
        return None
    entries = sorted(folder.iterdir())
    if not entries:
        return "is an empty directory; download the model into it"
    if files := [entry.name for entry in entries if entry.suffix.lower() == ".gguf"]:
        return f"holds GGUF files; name one of them: {', '.join(files[:4])}"
    if models := [entry.name for entry in entries if (entry / _MODEL_CONFIG).is_file()]:
        return f"holds no {_MODEL_CONFIG}, but its subdirectories do; name one of them: {', '.join(models[:4])}"
    if any((folder / name).exists() for name in ("params.json", "consolidated.safetensors", "consolidated.00.pth")):
        return "holds a model in its authors' own format; take the one that is converted for transformers"
    return f"holds no {_MODEL_CONFIG}, without which weights are no model; download it beside them"


def adapter_in(folder: Path) -> str | None:
    """What adapter a directory holds, where a whole model was expected, and what to do; None where it holds none."""
    values = _read_json(folder / ADAPTER_CONFIG)[0] if (folder / ADAPTER_CONFIG).is_file() else None
    if not isinstance(values, dict):
        return None
    if "peft_type" in values:
        if _first_there(folder, _WEIGHTS) and not _first_there(folder, _ADAPTER_WEIGHTS):
            # It was left beside the whole model that the adapter was merged into; with peft, transformers fails on it.
            has_peft = importlib.util.find_spec("peft") is not None
            return f"holds {ADAPTER_CONFIG}, but no PEFT adapter; where it is merged, delete that" if has_peft else None
        base = values.get("base_model_name_or_path") or "its base model"
        return (
            f"holds a PEFT adapter ({values['peft_type']}), which is not read; merge it into {base} "
            "(merge_and_unload, then save_pretrained) and name the result"
        )
    if "epalm_version" in values:
        return "holds an adapter of epalm and no model; name it as the adapter, and here the model it belongs to"
    return None


def cached_folder(path: str) -> Path | None:
    """The directory that a local path names, or that what was fetched of a hub id lies in; None where there is none."""
    if Path(path).is_dir():
        return Path(path)
    try:
        config = try_to_load_from_cache(path, _MODEL_CONFIG)
    except HFValidationError:
        return None
    return Path(config).parent if isinstance(config, str) else None


def is_gguf(path: Path) -> bool:
    """Whether a file calls itself GGUF, by its name or its first bytes."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return path.suffix.lower() == ".gguf" or file.read(4) == _GGUF
    except OSError:
        return False


def _damage_of_safetensors(path: Path, head: bytes, size: int) -> str | None:
    length = int.from_bytes(head[:8], "little")
    if head[8:9] != b"{" or length > _LONGEST_HEADER:
        return f"is no safetensors file, or damaged; {_AGAIN}"
    with path.open("rb") as file:
        file.seek(8)
        header = file.read(length)
    try:
        entries: dict[str, Any] = {} if len(header) < length else json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
        whole = 8 + length + max(ends, default=0)
    except (ValueError, TypeError, LookupError, AttributeError):
        return f"has a header that cannot be read; {_AGAIN}"
    if size < whole:
        return f"is cut off after {size:,} of {whole:,} bytes; {_AGAIN}"
    return f"is longer than its header says: {size:,} bytes, not {whole:,}; {_AGAIN}" if size > whole else None


def _damage_of_pickle(path: Path, head: bytes) -> str | None:
    if head.startswith(b"PK") and not zipfile.is_zipfile(path):  # what the file ends with is missing
        return f"is cut off; {_AGAIN}"
    return None


def _damage_of_shards(index: Path) -> str | None:
    """What is wrong with the files that an index names."""
    values = _read_json(index)[0]
    placed = values.get("weight_map") if isinstance(values, dict) else None
    if not isinstance(placed, dict) or not all(isinstance(name, str) for name in placed.values()):
        return f"{index.name} does not say which file holds which weight; {_AGAIN}"
    shards = sorted(set(placed.values()))
    if missing := [name for name in shards if not (index.parent / name).exists()]:
        return (
            f"{index.name} names {len(shards)} files of weights, and {len(missing)} of them "
            f"{'is' if len(missing) == 1 else 'are'} not there, first {missing[0]}; download what is missing"
        )
    return next((f"{name} {reason}" for name in shards if (reason := damage(index.parent / name))), None)


def _read_json(path: Path) -> tuple[Any, str | None]:
    """What a file of JSON holds, and why it cannot be read as an object."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        return None, f"is not valid JSON ({' '.join(str(error).split())}); {_AGAIN}"
    return values, None if isinstance(values, dict) else f"holds no JSON object; {_AGAIN}"


def _explicit_weights(folder: Path) -> str:
    """The file of weights that a configuration names itself, or the first of the usual ones."""
    config = folder / _MODEL_CONFIG
    values = _read_json(config)[0] if config.is_file() else None
    name = values.get("transformers_weights") if isinstance(values, dict) else None
    return name if isinstance(name, str) else _WEIGHTS[0]


def _first_there(folder: Path, names: Iterable[str]) -> tuple[str, ...]:
    return next(((name,) for name in names if (folder / name).exists() or (folder / name).is_symlink()), ())
