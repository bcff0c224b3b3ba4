"""The saved adapter: `adapter_config.json`, `adapter_model.safetensors` (exactly the trained tensors) and a model card.

The configuration names the frozen backbones and describes them well enough to notice any other: architecture, sizes
and a fingerprint of the weights. Files are written beside their place and renamed into it, the configuration last, so
that a directory never holds half an adapter that looks whole.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from epalm.errors import AdapterError, ConfigError
from epalm.models.cards import FORMAT, AdapterCard, model_card
from epalm.runtime.checkpoint_files import ADAPTER_CONFIG, damage

CONFIG_FILE = ADAPTER_CONFIG
TENSOR_FILE = "adapter_model.safetensors"
CARD_FILE = "README.md"
UNFINISHED = ".unfinished-"
"""How names begin in an adapter's directory that mean nothing: what was written when the process was killed."""


@dataclass(frozen=True)
class SavedAdapter:
    """An adapter as read from its files, not yet on any backbone."""

    where: str
    card: AdapterCard
    tensors: dict[str, Tensor]


def write_adapter(directory: str | Path, card: AdapterCard, tensors: Mapping[str, Tensor]) -> None:
    """Write the three files of an adapter.

    Raises:
        AdapterError: a tensor holds values that are not finite, or the directory cannot be written.
    """
    directory = Path(directory)
    _refuse_non_finite(tensors, f"{directory}: not written")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for left in directory.glob(f"{UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=directory, prefix=UNFINISHED) as scratch:
            fresh = Path(scratch)
            # Not by save_file, which leaves a file that nobody else may read.
            (fresh / TENSOR_FILE).write_bytes(
                save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
            )
            (fresh / CARD_FILE).write_text(model_card(card), encoding="utf-8")
            text = json.dumps(card.model_dump(mode="json"), indent=2, allow_nan=False)
            (fresh / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
            # Without a configuration there is no adapter: the directory is never half right.
            (directory / CONFIG_FILE).unlink(missing_ok=True)
            for name in (TENSOR_FILE, CARD_FILE, CONFIG_FILE):
                (fresh / name).replace(directory / name)
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{directory}: adapter cannot be written: {_one_line(error)}") from None


def read_adapter(source: str | Path) -> SavedAdapter:
    """Read an adapter from a local directory or the Hugging Face Hub.

    Raises:
        AdapterError: it is not there, incomplete or damaged.
    """
    where = str(source)
    directory = Path(source) if Path(source).is_dir() else _download(where)
    card = _read_card(directory / CONFIG_FILE, where)
    path = directory / TENSOR_FILE
    if not path.is_file():
        raise AdapterError(f"{where}: {TENSOR_FILE} is missing")
    if reason := damage(path):
        raise AdapterError(f"{where}: {TENSOR_FILE} {reason}")
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise AdapterError(f"{where}: {TENSOR_FILE} is damaged or incomplete ({_one_line(error)})") from None
    _refuse_non_finite(tensors, f"{where}: {TENSOR_FILE}")
    return SavedAdapter(where, card, tensors)


def check_tensors(saved: SavedAdapter, expected: Mapping[str, Tensor]) -> None:
    """See that an adapter holds exactly the tensors that are trained.

    Raises:
        AdapterError: one is missing, does not belong, or has another shape.
    """
    for name in sorted(expected.keys() - saved.tensors.keys()):
        raise AdapterError(f"{saved.where}: {TENSOR_FILE}: tensor '{name}' is missing")
    for name in sorted(saved.tensors.keys() - expected.keys()):
        raise AdapterError(f"{saved.where}: {TENSOR_FILE}: tensor '{name}' does not belong to this adapter")
    for name, tensor in saved.tensors.items():
        if tensor.shape != expected[name].shape:
            raise AdapterError(
                f"{saved.where}: {TENSOR_FILE}: tensor '{name}' has shape {list(tensor.shape)}, "
                f"expected {list(expected[name].shape)}"
            )


def _download(source: str) -> Path:
    """Fetch an adapter's files from the Hub."""
    try:
        return Path(snapshot_download(source, allow_patterns=[CONFIG_FILE, TENSOR_FILE]))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise AdapterError(f"{source}: no such directory, and not found on the Hub ({_one_line(error)})") from None


def _read_card(path: Path, where: str) -> AdapterCard:
    """Parse and validate the configuration."""
    if not path.is_file():
        held = "; a whole model is there, name it as a backbone" if (path.parent / "config.json").is_file() else ""
        raise AdapterError(f"{where}: {CONFIG_FILE} is missing{held}")
    if reason := damage(path):
        raise AdapterError(f"{where}: {CONFIG_FILE} {reason}")
    values = json.loads(path.read_text(encoding="utf-8"))
    if "peft_type" in values:
        raise AdapterError(
            f"{where}: is a PEFT adapter ({values['peft_type']}), which gives no perception; name one of epalm"
        )
    if values.get("format") != FORMAT:
        raise AdapterError(
            f"{where}: {CONFIG_FILE} has format {values.get('format')!r}, this version of epalm reads {FORMAT}"
        )
    try:
        return AdapterCard.build(values, where=f"{where}: {CONFIG_FILE}")
    except ConfigError as error:
        raise AdapterError(str(error)) from None


def _refuse_non_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise AdapterError(f"{where}: tensor '{name}' holds values that are not finite")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
