"""Loading frozen backbones: the language model with its tokenizer, and the encoders by modality."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn
from transformers import PreTrainedModel

from epalm.encoders import LongSounds, PerceptualEncoder, Statistics, load_encoder
from epalm.errors import ConfigError, UnsupportedModelError
from epalm.models.anatomy import Anatomy, study
from epalm.models.language_model_files import LanguageModelFiles
from epalm.models.precision import Precision, best_attention, best_dtype
from epalm.models.quantised import (
    OF_BITSANDBYTES,
    Quantization,
    let_gradients_through,
    quantization_of,
    to_int8,
)
from epalm.models.selfcheck import PROVEN, examine
from epalm.models.sharding import is_sharded, require_shardable, shard_layers
from epalm.runtime.devices import usable_device, usable_dtype
from epalm.runtime.offloading import execution_device, is_dispatched, is_offloaded
from epalm.settings.nearest import nearest

Source = str | Path | nn.Module
"""Hub id, local directory, `toyworld/...`, a GGUF file (of a language model), or a live model."""


@dataclass(frozen=True)
class SharedLanguageModel:
    """A language model that another adapter speaks by already: served as it is, where it is."""

    model: PreTrainedModel
    source: str | None
    """Where it came from."""
    tokenizer: Any

    @property
    def device(self) -> torch.device:
        """Where it takes its inputs."""
        return execution_device(self.model.get_input_embeddings())

    def require(
        self,
        dtype: Precision | None,
        device: str | torch.device | None,
        attn_implementation: str | None,
        quantization: Quantization | None,
        shard: bool,
    ) -> None:
        """See that it is held as is asked: any change would change what its other adapters say.

        Raises:
            ConfigError: it is held in another way.
        """
        attention, quantized_as = self.model.config._attn_implementation, quantization_of(self.model)
        place = self.device if device is None else torch.device(device)
        is_there = place.type == self.device.type and place.index in (None, self.device.index)
        for asked, actual, matches in (
            (dtype, self.model.dtype, dtype in (None, "auto", self.model.dtype)),
            (place, self.device, is_there),
            (attn_implementation, attention, attn_implementation in (None, attention)),
            (f"quantization {quantization}", f"quantization {quantized_as}", quantization in (None, quantized_as)),
            ("shard true", "whole", not shard or is_sharded(self.model)),
        ):
            if not matches:
                raise ConfigError(
                    f"language model {self.source}: is shared and stays {actual}, {asked} was asked for; load another "
                    "copy of it"
                )


def load_language_model(
    source: Source | SharedLanguageModel,
    *,
    decoder_layers: str | None = None,
    dtype: Precision | None = None,
    device: str | torch.device | None = None,
    attn_implementation: str | None = None,
    quantization: Quantization | None = None,
    shard: bool = False,
) -> tuple[PreTrainedModel, Anatomy, str | None]:
    """A frozen language model known to be one that can be served, its parts, and the name of where it came from.

    Args:
        source: a live model stays as it is, but for being frozen and for what is given here; a shared one as it is.
        decoder_layers: see `study`.
        dtype: of its weights; unset: float32; `auto`: see `epalm.models.precision`; either: as a live model has it.
        device: where it goes; unset: the CPU, or where the live model is.
        attn_implementation: `eager` or `sdpa`; unset: `eager` for bfloat16 on the CPU, else transformers' choice.
        quantization: see `epalm.models.quantised`; unset: none, or as the live model is held.
        shard: share it out among all processes, see `epalm.models.sharding`.

    Raises:
        ConfigError: nothing can be loaded from there, or not quantised or sharded so; or a shared model would have
            to change; or there is no such dtype or device.
        UnsupportedModelError: what is there cannot be served.
    """
    weights_dtype = None if dtype is None else usable_dtype(dtype, "torch_dtype", auto=True)
    if device is not None:
        device = usable_device(device)
    if quantization not in (None, *get_args(Quantization)):
        names = get_args(Quantization)
        raise ConfigError(f"quantization: there is no '{quantization}'{nearest(str(quantization), names)}")
    if isinstance(source, SharedLanguageModel):
        source.require(weights_dtype, device, attn_implementation, quantization, shard)
        return source.model, study(source.model, decoder_layers), source.source
    current = quantization_of(source) if isinstance(source, nn.Module) else quantization
    if shard:
        require_shardable(current)
    if isinstance(source, nn.Module):
        model: Any = source
        name = getattr(getattr(source, "config", None), "_name_or_path", None) or None
        _require_quantizable(name, current or "none", quantization)
        if is_dispatched(model):
            _require_in_place(name, model, weights_dtype, device, current != quantization == "int8", shard)
            device = None
        if attn_implementation is not None:
            try:
                model.set_attn_implementation(attn_implementation)
            except (ValueError, ImportError) as error:
                raise UnsupportedModelError(f"language model {name}: {' '.join(str(error).split())}") from None
        if weights_dtype not in (None, "auto", getattr(model, "dtype", None)):
            model = model.to(weights_dtype)
    else:
        weights_dtype = best_dtype(device) if weights_dtype == "auto" else weights_dtype or torch.float32
        attention = attn_implementation or best_attention(weights_dtype, device)
        files, name = LanguageModelFiles.find(source), str(source)
        model = files.load(weights_dtype, attention, quantization, device, decoder_layers)
    anatomy = study(model, decoder_layers)
    if quantization == "int8":
        to_int8(anatomy.layers)
    let_gradients_through(model)
    # Those of bitsandbytes cannot be moved; one that is to be sharded stays in main memory until it is.
    if device is not None and quantization_of(model) not in OF_BITSANDBYTES and not shard:
        model = model.to(device)
    model.eval().requires_grad_(False)
    if anatomy.family not in PROVEN:
        examine(model, anatomy)
    if shard and not is_sharded(model):
        shard_layers(model, anatomy.layers, torch.device(device or "cpu"))
    return model, anatomy, name


def load_tokenizer(source: Source | SharedLanguageModel) -> Any:
    """The tokenizer that lies beside a language model, or None where there is none.

    Raises:
        ConfigError: there is one, and it cannot be loaded.
    """
    if isinstance(source, SharedLanguageModel):
        return source.tokenizer
    return None if isinstance(source, nn.Module) else LanguageModelFiles.find(source, weights=False).tokenizer()


def load_encoders(
    sources: Source | Mapping[str, Source] | None,
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
    frames: int | None = None,
    long_sounds: LongSounds | None = None,
    statistics: Statistics | None = None,
) -> dict[str, PerceptualEncoder]:
    """Encoders by modality, from one source or several by modality.

    Args:
        sources: as for `load_encoder`; a `PerceptualEncoder` is taken as it is, but for the device.
        dtype: see `load_encoder`.
        device: see `load_encoder`.
        frames: see `load_encoder`; for the encoder of clips. A `PerceptualEncoder` keeps its own.
        long_sounds: see `load_encoder`; for the encoder of sounds, likewise.
        statistics: see `load_encoder`; for the encoders of pictures and clips, likewise.

    Raises:
        ConfigError: a source or a setting is wrong, or a source perceives something else than its name says.
        UnsupportedModelError: an encoder cannot be served.
    """
    if sources is None:
        return {}
    if device is not None:
        device = usable_device(device)
    loaded: dict[str, PerceptualEncoder] = {}
    by_modality: Iterable[tuple[str | None, Any]] = [(None, sources)]
    if isinstance(sources, Mapping | nn.ModuleDict):  # the latter is what a model keeps its own in
        by_modality = sources.items()
    for name, source in by_modality:
        if isinstance(source, PerceptualEncoder):
            encoder = source if device is None else source.to(device)
        else:
            encoder = load_encoder(
                source,
                dtype=dtype,
                device=device,
                modality=name,
                frames=frames if name in (None, "video") else None,
                long_sounds=long_sounds if name in (None, "audio") else None,
                statistics=statistics if name != "audio" else None,
            )
        if name not in (None, encoder.modality):
            raise ConfigError(
                f"encoders: {encoder.source or 'a live encoder'} perceives {encoder.modality}, not {name}"
            )
        loaded[encoder.modality] = encoder
    return loaded


def require_use(
    loaded: Mapping[str, PerceptualEncoder], frames: int | None, long_sounds: str | None, statistics: str | None
) -> None:
    """See that settings that were given have an encoder to go to.

    Raises:
        ConfigError: there is none.
    """
    for name, value, modalities in (
        ("frames", frames, ["video"]),
        ("long_sounds", long_sounds, ["audio"]),
        ("statistics", statistics, ["image", "video"]),
    ):
        if value is not None and not loaded.keys() & set(modalities):
            missing = " or ".join(modalities)
            raise ConfigError(f"{name}: nothing here perceives {missing}; leave it out, or name an encoder for it")


def _require_quantizable(name: str | None, current: Quantization, requested: Quantization | None) -> None:
    """See that a live language model whose quantization is `current` can be given the `requested` one."""
    if requested in (None, current) or (current, requested) == ("none", "int8"):
        return
    raise ConfigError(
        f"model.quantization: the live language model {name or ''} has {current} and cannot be given {requested}; "
        "name the files it comes from instead"
    )


def _require_in_place(
    name: str | None,
    model: Any,
    dtype: torch.dtype | str | None,
    device: torch.device | str | None,
    to_be_quantized: bool,
    shard: bool,
) -> None:
    """See that nothing is asked for that would move a live language model whose parts accelerate has placed."""
    place = execution_device(model)
    changes = {
        "device": device is not None and torch.device(device) != place,
        "torch_dtype": is_offloaded(model) and dtype not in (None, "auto", model.dtype),
        "quantization": is_offloaded(model) and to_be_quantized,
        "shard": shard,
    }
    if asked := next((setting for setting, is_asked in changes.items() if is_asked), None):
        raise ConfigError(
            f"{asked}: accelerate has placed the parts of the live language model {name or ''} (on {place}, or "
            "offloaded), and there they stay; leave it out"
        )
