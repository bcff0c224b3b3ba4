"""What a feature store says of itself, `store.json`: its key, which is everything that changes its numbers.

Two stores of one key hold the same features of the same things; stores of different keys are never mixed. The encoder's
name and revision are kept for people: its weights themselves are in the key, to the last bit, so that a directory that
was moved is still the same encoder, and one whose weights were replaced is not.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from epalm.data.store.shards import DTYPES, write_atomically
from epalm.encoders import PerceptualEncoder
from epalm.errors import ConfigError, DataError
from epalm.runtime.fingerprint import digest, fingerprint
from epalm.settings import Settings

DESCRIPTION = "store.json"
FORMAT = 1
"""Version of the layout of a store."""
METHOD = 2
"""Goes up when this package comes to decode or perceive otherwise: features of before are then left alone.

2: joined, surround and out-of-phase recordings, films of several tracks or parts or with oblong pixels, some pictures.
"""
_NOT_OF_THE_NUMBERS = ("architectures", "dtype", "id2label", "label2id", "torch_dtype", "transformers_version")
_SOFTWARE = ("epalm", "torch", "transformers", "numpy", "pillow", "av", "soundfile", "soxr")


StoredDtype = Literal["float32", "float16", "bfloat16"]


class StoreDescription(Settings):
    """All of `store.json`."""

    format: int = FORMAT
    """Version of this layout."""
    identity: Literal["content", "id"]
    """How an item is known: by what is in its file, or by the id that it was imported with."""
    shape: tuple[int, ...]
    """Of one item's features: (K, E), or (K, N, E) of every token, where N is -1 if items differ in it."""
    dtype: StoredDtype
    """What features are stored in."""
    facts: dict[str, Any] = Field(default_factory=dict)
    """Everything else that changes the numbers."""
    made_by: str | None = None
    """Hub id or directory of the encoder, or what whoever brought the features says."""
    revision: str | None = None
    """Commit of the hub's files, where that is known."""
    family: str | None = None
    """Of the encoder, as transformers names it."""
    depth: int | None = None
    """Blocks the encoder has."""
    fingerprint: str | None = None
    """Of the encoder's weights, as adapters know it."""
    software: dict[str, str] = Field(default_factory=dict)
    """Versions of what made the first of the features."""
    special_tokens: int | None = None
    """Of every token how many in front stand for no place, where that is known."""
    grid: tuple[int, int] | None = None
    """Rows and columns of the patches behind those, where they make such a grid."""

    @property
    def of_every_token(self) -> bool:
        """Whether features are of every token."""
        return len(self.shape) == 3

    @property
    def shape_text(self) -> str:
        """The shape, for people."""
        return f"({', '.join('N' if size == -1 else str(size) for size in self.shape)})"

    @property
    def is_ragged(self) -> bool:
        """Whether items differ in how many tokens they have."""
        return -1 in self.shape

    @property
    def key(self) -> str:
        """32 hexadecimal digits that stand for everything that changes the numbers."""
        described = {name: getattr(self, name) for name in ("format", "identity", "shape", "dtype", "facts")}
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]

    def write(self, folder: Path) -> None:
        """Write `store.json`, if it is not there.

        Raises:
            DataError: it cannot be written.
        """
        if not (folder / DESCRIPTION).is_file():
            unknown = {name for name in ("special_tokens", "grid") if getattr(self, name) is None}
            text = self.model_dump_json(indent=2, exclude=unknown)
            write_atomically(folder / DESCRIPTION, (text + "\n").encode())

    def difference(self, other: StoreDescription) -> str:
        """What this store's key has that another's has not, in words; empty where the keys are the same."""
        mine, theirs = (
            each.facts | {"shape": list(each.shape), "dtype": each.dtype, "identity": each.identity}
            for each in (self, other)
        )
        differing = [name for name in sorted({*mine, *theirs}) if mine.get(name) != theirs.get(name)]
        return "; ".join(f"{name} {_short(mine.get(name))}, not {_short(theirs.get(name))}" for name in differing)


def read_description(folder: Path) -> StoreDescription:
    """The description of the store in `folder`.

    Raises:
        DataError: there is no store, or its description is damaged or of another version.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise DataError(f"{folder}: no feature store; {DESCRIPTION} is not there")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("no settings in it")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: damaged ({' '.join(str(error).split())}); remove the store, to build it anew"
        ) from None
    if values.get("format") != FORMAT:
        raise DataError(f"{path}: has format {values.get('format')!r}, this version of epalm reads {FORMAT}")
    try:
        return StoreDescription.build(values, where=str(path))
    except ConfigError as error:
        raise DataError(str(error)) from None


def describe_encoder(
    encoder: PerceptualEncoder, levels: int, dtype: StoredDtype | None = None, *, every_token: bool = False
) -> StoreDescription:
    """The description of a store of what `encoder` gives of files.

    Args:
        encoder: with its processor.
        levels: K.
        dtype: what to store in, one of float32, float16 and bfloat16; unset: what the encoder gives.
        every_token: of features (K, N, E).
    """
    backbone: Any = encoder.backbone
    config = backbone.config
    weight = next(weight for weight in backbone.parameters() if weight.is_floating_point())
    computed: Any = str(weight.dtype).removeprefix("torch.")
    facts = {
        "method": METHOD,
        "modality": encoder.modality,
        "encoder": f"{type(encoder).__name__} of {type(backbone).__name__}",
        "settings": {
            name: value
            for name, value in config.to_diff_dict().items()
            if name not in _NOT_OF_THE_NUMBERS and not name.startswith("_")
        },
        "weights": digest(backbone),
        "read": [encoder.anatomy.summary, encoder.anatomy.skip],
        "processor": None if encoder.processor is None else encoder.processor.to_dict(),
        "reading": encoder.reading,
        "frames": getattr(encoder, "frames", None),
        "long_sounds": getattr(encoder, "long_sounds", None),
        "levels": levels,
        "computed_in": computed,
        "attention": getattr(config, "_attn_implementation", None),
        "device": encoder.device.type,
    }
    if every_token:
        facts["tokens"] = "every"
    return StoreDescription(
        identity="content",
        shape=(levels, encoder.token_count or -1, encoder.width) if every_token else (levels, encoder.width),
        dtype=dtype or (computed if computed in DTYPES else "float32"),
        facts=json.loads(json.dumps(facts, sort_keys=True, default=_plain)),
        made_by=encoder.source,
        revision=getattr(config, "_commit_hash", None),
        family=getattr(config, "model_type", None),
        depth=encoder.levels,
        fingerprint=fingerprint(backbone),
        software=_software(),
        special_tokens=encoder.special_tokens if every_token else None,
        grid=encoder.grid if every_token else None,
    )


def _plain(value: Any) -> Any:
    """Something that JSON has no word for, such as a processor's filters."""
    if isinstance(value, np.ndarray):
        return hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    return value.tolist() if isinstance(value, np.generic) else str(value)


def _software() -> dict[str, str]:
    found = {}
    for name in _SOFTWARE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
