"""Loading frozen backbones: the language model with its tokenizer, and the encoders by modality."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from epalm.encoders import LongSounds, PerceptualEncoder, load_encoder
from epalm.errors import ConfigError, UnsupportedModelError
from epalm.models.anatomy import Anatomy, study
from epalm.models.selfcheck import PROVEN, examine
from epalm.sources import resolve_source

Source = str | Path | nn.Module
"""Hub id, local directory, `toyworld/...`, or a live model."""


def load_language_model(
    source: Source,
    *,
    decoder_layers: str | None = None,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
    attn_implementation: str | None = None,
) -> tuple[PreTrainedModel, Anatomy, str | None]:
    """A frozen language model known to be one that can be served, its parts, and the name of where it came from.

    Args:
        source: a live model stays as it is, but for being frozen and for what is given here.
        decoder_layers: see `study`.
        dtype: of its weights; unset: float32, or as the live model has it.
        device: where it goes; unset: the CPU, or where the live model is.
        attn_implementation: `eager` or `sdpa`; unset: transformers' choice.

    Raises:
        ConfigError: nothing can be loaded from there.
        UnsupportedModelError: what is there cannot be served.
    """
    if isinstance(source, nn.Module):
        model: Any = source
        name = getattr(getattr(source, "config", None), "_name_or_path", None) or None
        if attn_implementation is not None:
            try:
                model.set_attn_implementation(attn_implementation)
            except (ValueError, ImportError) as error:
                raise UnsupportedModelError(f"language model {name}: {' '.join(str(error).split())}") from None
        if dtype is not None or device is not None:
            model = model.to(device=device, dtype=dtype)
    else:
        model, name = _from_files(str(source), dtype or torch.float32, attn_implementation), str(source)
        model = model if device is None else model.to(device)
    anatomy = study(model, decoder_layers)
    model.eval().requires_grad_(False)
    if anatomy.family not in PROVEN:
        examine(model, anatomy)
    return model, anatomy, name


def load_tokenizer(source: Source) -> Any:
    """The tokenizer that lies beside a language model, or None where there is none."""
    if isinstance(source, nn.Module):
        return None
    try:
        return AutoTokenizer.from_pretrained(resolve_source(source), trust_remote_code=False)
    except (OSError, ValueError, ImportError, KeyError):
        return None


def load_encoders(
    sources: Source | Mapping[str, Source] | None,
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
    frames: int | None = None,
    long_sounds: LongSounds | None = None,
) -> dict[str, PerceptualEncoder]:
    """Encoders by modality, from one source or several by modality.

    Args:
        sources: as for `load_encoder`; a `PerceptualEncoder` is taken as it is, but for the device.
        dtype: see `load_encoder`.
        device: see `load_encoder`.
        frames: see `load_encoder`; for the encoder of clips. A `PerceptualEncoder` keeps its own.
        long_sounds: see `load_encoder`; for the encoder of sounds, likewise.

    Raises:
        ConfigError: a source or a setting is wrong, or a source perceives something else than its name says.
        UnsupportedModelError: an encoder cannot be served.
    """
    if sources is None:
        return {}
    loaded: dict[str, PerceptualEncoder] = {}
    named: Iterable[tuple[str | None, Source]] = sources.items() if isinstance(sources, Mapping) else [(None, sources)]
    for name, source in named:
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
            )
        if name not in (None, encoder.modality):
            raise ConfigError(
                f"encoders: {encoder.source or 'a live encoder'} perceives {encoder.modality}, not {name}"
            )
        loaded[encoder.modality] = encoder
    return loaded


def require_use(loaded: Mapping[str, PerceptualEncoder], frames: int | None, long_sounds: str | None) -> None:
    """See that settings that were given have an encoder to go to.

    Raises:
        ConfigError: there is none.
    """
    for name, given, modality in (("frames", frames, "video"), ("long_sounds", long_sounds, "audio")):
        if given is not None and modality not in loaded:
            raise ConfigError(f"{name}: nothing here perceives {modality}; leave it out, or name an encoder for it")


def _from_files(source: str, dtype: torch.dtype, attn_implementation: str | None) -> PreTrainedModel:
    options = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
    try:
        path = resolve_source(source)
    except ConfigError as error:
        raise ConfigError(f"language model {error}") from None
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            trust_remote_code=False,  # code from a repository is never run
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        # transformers' words for an architecture it knows that has no causal language model
        unfit = "for this kind of AutoModel" in str(error)
        kind = UnsupportedModelError if unfit else ConfigError
        reason = "not a causal language model" if unfit else " ".join(str(error).split())
        raise kind(f"language model {source}: {reason}") from None
    if report["missing_keys"]:
        # transformers fills them with random weights
        lacking = sorted(report["missing_keys"])
        raise ConfigError(f"language model {source}: its checkpoint lacks {len(lacking)} weights, first '{lacking[0]}'")
    return model
