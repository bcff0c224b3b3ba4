"""Checkpoints of the original eP-ALM code -> the trained tensors by the names they have here.

A `.pth` holds a dict with `model`: `connector.{i}.weight` (D, E) and `.bias` (D), i = 0 for a shared linear, else one
for each level, shallow to deep, whether it reaches a layer or not; `prompt_module.prefix_embedding.0.weight` (P, W)
and, of an `mlp` prompt, `.1` and `.3` with `.weight` (W, W) and `.bias` (W). Its `config`, if it is there, tells the
window.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.dtypes import Float64DType
from torch import Tensor

from epalm.errors import AdapterError
from epalm.runtime.checkpoint_files import damage

_CONNECTOR = re.compile(r"connector\.(\d+)\.(weight|bias)")
_PROMPT = "prompt_module.prefix_embedding"
_PLAIN = {f"{_PROMPT}.0.weight": "prompt.weight"}
_MLP = {
    f"{_PROMPT}.0.weight": "prompt.embedding.weight",
    f"{_PROMPT}.1.weight": "prompt.inner.weight",
    f"{_PROMPT}.1.bias": "prompt.inner.bias",
    f"{_PROMPT}.3.weight": "prompt.outer.weight",
    f"{_PROMPT}.3.bias": "prompt.outer.bias",
}
_SETTINGS = {"start_layer_idx": "start", "end_layer_idx": "end", "injected_hidden_states": "levels"}
"""Its configuration's names for settings of the adapter."""
_SCALAR = np.float64(0).__reduce__()[0]
_PLAIN_NUMBERS: list[Any] = [
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    Float64DType,
]
"""A caption's best score is saved as a number of numpy's, whose maker numpy 1 and 2 name differently."""


@dataclass(frozen=True)
class OriginalCheckpoint:
    """What a checkpoint says of the adapter in it."""

    where: str
    settings: dict[str, Any]
    """Settings of the adapter that follow from the file, the mask included."""
    has_window: bool
    """Whether it tells where the window begins and ends; else it is that of the backbones."""
    width: int
    """D."""
    encoder_width: int
    """E."""
    embedding_width: int | None
    """W, where there is a soft prompt."""
    _tensors: dict[str, Tensor]

    def tensors(self, modality: str, used_levels: int) -> dict[str, Tensor]:
        """The trained tensors, float32, as an adapter of that modality names them.

        Args:
            modality: what it perceives.
            used_levels: how many of its levels reach a layer; the linears of deeper ones are left out.
        """
        front = f"connector.{modality}."
        return {
            re.sub(r"^connector\.", front, name): tensor.float().contiguous()
            for name, tensor in self._tensors.items()
            if not (found := _CONNECTOR.fullmatch(name)) or int(found[1]) < used_levels
        }


def read_original(path: str | Path) -> OriginalCheckpoint:
    """Read a checkpoint; nothing in it is run, and frozen weights are not expected in it.

    Raises:
        AdapterError: it is not there, damaged, holds more than tensors and numbers, or is laid out in another way.
    """
    content = _load(path)
    tensors = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(tensors, Mapping) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise AdapterError(f"{path}: is not laid out as an original checkpoint: it has no 'model' with tensors")
    linears = _connectors(path, tensors)
    names = _prompt_names(path, tensors)
    expected = {f"connector.{i}.{kind}" for i in range(linears) for kind in ("weight", "bias")} | names.keys()
    if foreign := sorted(set(tensors) - expected):
        raise AdapterError(
            f"{path}: holds '{foreign[0]}'; only linear connectors and soft prompts of the input can be converted"
        )
    first = tensors["connector.0.weight"]
    _require_shapes(path, tensors, first.shape, linears)
    settings: dict[str, Any] = {"mask": "legacy", "connector": "shared" if linears == 1 else "per_level"}
    config = content.get("config")
    settings |= _window_settings(config if isinstance(config, Mapping) else {})
    if linears > 1:
        if settings.get("levels", linears) != linears:
            raise AdapterError(f"{path}: has {linears} linears, but its configuration says {settings['levels']} levels")
        settings["levels"] = linears
    embedding = tensors.get(f"{_PROMPT}.0.weight")
    if embedding is None:
        settings |= {"preset": "epalm_lin", "prompt": "none"}
    else:
        settings |= {"prompt": "mlp" if len(names) > 1 else "plain", "prompt_tokens": len(embedding)}
        settings["preset"] = "epalm" if linears > 1 else "epalm_pt"
    return OriginalCheckpoint(
        where=str(path),
        settings=settings,
        has_window={"start", "end"} <= settings.keys(),
        width=first.shape[0],
        encoder_width=first.shape[1],
        embedding_width=None if embedding is None else embedding.shape[1],
        _tensors={names.get(str(name), str(name)): tensor for name, tensor in tensors.items()},
    )


def _load(path: str | Path) -> Any:
    if not Path(path).is_file():
        raise AdapterError(f"{path}: no such file; name a .pth of the original code")
    if reason := damage(Path(path)):
        raise AdapterError(f"{path}: {reason}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own on old pickles; what follows says enough
            with torch.serialization.safe_globals(_PLAIN_NUMBERS):
                return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise AdapterError(f"{path}: cannot be read: {error.strerror or error}") from None
    except pickle.UnpicklingError:
        raise AdapterError(
            f"{path}: is no checkpoint of tensors and plain values alone; code in a checkpoint is never run"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, zipfile.BadZipFile):
        raise AdapterError(f"{path}: is no checkpoint, or damaged") from None


def _connectors(path: str | Path, tensors: Mapping[str, Tensor]) -> int:
    """How many linears there are, numbered without a gap."""
    numbers = sorted({int(found[1]) for name in tensors if (found := _CONNECTOR.fullmatch(name))})
    if not numbers:
        raise AdapterError(f"{path}: is not laid out as an original checkpoint: it has no 'connector.0.weight'")
    for number in range(numbers[-1] + 1):
        for kind in ("weight", "bias"):
            if f"connector.{number}.{kind}" not in tensors:
                raise AdapterError(f"{path}: 'connector.{number}.{kind}' is missing")
    return len(numbers)


def _prompt_names(path: str | Path, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Its names of the prompt's tensors -> ours; empty where there is no prompt."""
    found = {name for name in tensors if name.startswith(f"{_PROMPT}.")}
    if not found:
        return {}
    names: Mapping[str, str] = _PLAIN if found <= _PLAIN.keys() else _MLP
    if missing := sorted(names.keys() - found):
        raise AdapterError(f"{path}: '{missing[0]}' is missing")
    return dict(names)


def _require_shapes(path: str | Path, tensors: Mapping[str, Tensor], shape: torch.Size, linears: int) -> None:
    """See that all sizes agree with those of the first linear, (D, E), and of the prompt's embeddings, (P, W)."""
    embedding = tensors.get(f"{_PROMPT}.0.weight")
    expected: dict[str, list[int]] = {}
    if len(shape) == 2:
        for number in range(linears):
            expected |= {f"connector.{number}.weight": list(shape), f"connector.{number}.bias": [shape[0]]}
    if embedding is not None and embedding.ndim == 2:
        width = embedding.shape[1]
        for layer in (1, 3):
            expected |= {f"{_PROMPT}.{layer}.weight": [width, width], f"{_PROMPT}.{layer}.bias": [width]}
    for name, tensor in tensors.items():
        if name in expected and list(tensor.shape) != expected[name]:
            raise AdapterError(f"{path}: '{name}' has shape {list(tensor.shape)}, expected {expected[name]}")
        if name not in expected and tensor.ndim != 2:
            raise AdapterError(f"{path}: '{name}' has shape {list(tensor.shape)}, expected two dimensions")


def _window_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The window and the levels, as far as its configuration holds them."""
    found = {ours: config.get(theirs) for theirs, ours in _SETTINGS.items()}
    return {name: value for name, value in found.items() if isinstance(value, int) and (value or name == "start")}
