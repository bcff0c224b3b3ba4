"""One way in for every encoder: a hub id, a directory, a toy backbone or a live module -> `PerceptualEncoder`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_MAPPING
from transformers.utils import logging

from epalm.encoders.audio import AudioEncoder, LongSounds
from epalm.encoders.base import PerceptualEncoder
from epalm.encoders.frames import DEFAULT_FRAMES, FrameEncoder
from epalm.encoders.registry import find_encoder
from epalm.encoders.statistics import Statistics, use_statistics
from epalm.encoders.video import VideoEncoder
from epalm.errors import ConfigError, UnsupportedModelError
from epalm.runtime.checkpoint_files import first_damage, is_gguf, not_a_model
from epalm.runtime.devices import usable_device, usable_dtype
from epalm.runtime.loading_errors import explained, require_known_quantization
from epalm.runtime.offloading import execution_device, is_dispatched
from epalm.runtime.sources import resolve_source

# Poolers and heads lie behind the levels and mask tokens serve pretraining alone: checkpoints of other tasks lack them.
_NEVER_READ = ("pooler.", "head.", "classifier.", "embeddings.mask_token", "masked_spec_embed")

_JSON_FILES = ("config.json", "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")


def load_encoder(
    source: str | Path | nn.Module,
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
    attn_implementation: str | None = None,
    processor: Any = None,
    modality: str | None = None,
    frames: int | None = None,
    long_sounds: LongSounds | None = None,
    statistics: Statistics | None = None,
) -> PerceptualEncoder:
    """Load a frozen encoder and make sure that its levels can be read.

    Of a model with several towers (CLIP, SigLIP, CLAP) the one that perceives is taken, of one with a head the part
    below it, of one with a decoder (Whisper) the encoder.

    Args:
        source: a hub id, a directory, `toyworld/vit`, or a live Hugging Face model, which is frozen in place.
        dtype: of the weights; by default float32, or what a live model already has.
        device: where to put it; by default the CPU, or where a live model already is.
        attn_implementation: `eager`, `sdpa`, ...; by default transformers' own choice.
        processor: used instead of the encoder's own. A live model brings none and can do without, as long as its inputs
            come ready made.
        modality: what the encoder must perceive; by default what it does. An encoder of pictures perceives `video` as
            well, frame by frame, its levels averaged over time.
        frames: frames of a clip, for `video` alone: what an encoder of clips was trained with (others if it takes
            them), else 8.
        long_sounds: what is perceived of sounds longer than the window, for `audio` alone: the `first` window, which is
            the default, or all `windows`, averaged.
        statistics: by whose mean and spread pixels are normalised: the encoder's `own`, which is the default, or those
            of `clip`.

    Raises:
        ConfigError: the source, its files or its processor configuration cannot be found or read; the encoder perceives
            something else than `modality`; `frames`, `long_sounds` or `statistics` do not fit it; or there is no such
            dtype or device.
        UnsupportedModelError: it is no encoder that can be served, or its checkpoint lacks weights that are needed.
    """
    if dtype is not None:
        dtype = usable_dtype(dtype)
    if device is not None:
        device = usable_device(device)
    if isinstance(source, nn.Module):
        backbone = _tower(source, modality)
        if attn_implementation is not None:
            with _explained(_live_name(source), None):
                backbone.set_attn_implementation(attn_implementation)
        backbone = _moved(backbone, device, dtype)
        name = getattr(source, "name_or_path", None) or None
        encoder_class = _class_for(backbone.config, type(backbone), _live_name(source))
        encoder = _built(encoder_class, backbone, processor, name, modality, frames, long_sounds)
        if statistics is not None:
            use_statistics(encoder, statistics)
        return encoder
    name, path = str(source), resolve_source(source)
    _require_files(name, Path(path), ("config.json",) if processor is not None else _JSON_FILES)
    with _explained(name, path):
        # Code from a repository is never run, and never asked for on the terminal.
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
        require_known_quantization(name, config)
    config = _tower_config(config, modality)
    encoder_class = _class_for(config, MODEL_MAPPING.get(type(config), None), name)
    if processor is None:
        with _explained(f"{name}: no processor; give load_encoder(..., processor=...) if it has none", path):
            processor = encoder_class.load_processor(path)
    with _explained(name, path):
        backbone, missing = encoder_class.load_backbone(
            path,
            config,
            dtype=dtype or torch.float32,
            attn_implementation=attn_implementation,
            trust_remote_code=False,
        )
    _refuse_random_weights(name, [key for key in missing if not key.startswith(_NEVER_READ)])
    encoder = _built(encoder_class, backbone.to(device=device), processor, name, modality, frames, long_sounds)
    _refuse_random_weights(name, [key for key in missing if key in _of_norm(encoder)])
    _drop_random_pooler(encoder, missing)
    _still_random_extras(encoder, missing)
    if statistics is not None:
        use_statistics(encoder, statistics)
    return encoder


def _built(
    encoder_class: type[PerceptualEncoder],
    backbone: nn.Module,
    processor: Any,
    source: str | None,
    modality: str | None,
    frames: int | None,
    long_sounds: LongSounds | None,
) -> PerceptualEncoder:
    """The encoder, with the settings that its modality has and no others."""
    name = source or type(backbone).__name__
    by_frame = encoder_class.modality == "image" and modality == "video"
    if modality not in (None, encoder_class.modality) and not by_frame:
        raise ConfigError(f"{name}: perceives {encoder_class.modality}, not {modality}")
    if frames is not None and not (by_frame or issubclass(encoder_class, VideoEncoder)):
        raise ConfigError(f"frames: {name} perceives {encoder_class.modality}; only clips have frames")
    if long_sounds is not None and not issubclass(encoder_class, AudioEncoder):
        raise ConfigError(f"long_sounds: {name} perceives {encoder_class.modality}, not sounds")
    if issubclass(encoder_class, VideoEncoder):
        return encoder_class(backbone, processor, source, frames=frames)
    if issubclass(encoder_class, AudioEncoder):
        return encoder_class(backbone, processor, source, long_sounds=long_sounds or "first")
    encoder = encoder_class(backbone, processor, source)
    return FrameEncoder(encoder, DEFAULT_FRAMES if frames is None else frames) if by_frame else encoder


def _tower_config(config: Any, modality: str | None) -> Any:
    """Configuration of the tower that perceives `modality`, by default pictures before sounds."""
    towers = {"vision": getattr(config, "vision_config", None), "audio": getattr(config, "audio_config", None)}
    if modality == "audio":
        return towers["audio"] or config
    return towers["vision"] or towers["audio"] or config


def _tower(model: nn.Module, modality: str | None) -> PreTrainedModel:
    if not isinstance(model, PreTrainedModel):
        raise UnsupportedModelError(f"{type(model).__name__}: only Hugging Face models can serve as encoders")
    tower_config = _tower_config(model.config, modality)
    if tower_config is not model.config:
        kind = "vision" if tower_config is getattr(model.config, "vision_config", None) else "audio"
        tower = getattr(model, f"{kind}_model", None)
        if tower is None:
            raise UnsupportedModelError(f"{_live_name(model)}: has no {kind} tower of its own; give the tower itself")
        return tower
    if model.config.is_encoder_decoder:
        return getattr(model.base_model, "encoder", model)  # or it is the encoder
    if getattr(model, "fc_norm", None) is not None and model.base_model is not model:
        return model  # the only norm that VideoMAE with mean pooling has
    if MODEL_MAPPING.get(type(model.config), None) is type(model):
        return model
    return getattr(model.base_model, "audio_model", model.base_model)  # CLAP's audio tower below its projection


def _moved(model: PreTrainedModel, device: torch.device | None, dtype: torch.dtype | None) -> PreTrainedModel:
    """A live encoder where it is asked for and as it is asked for.

    Raises:
        ConfigError: accelerate has placed its parts, and there they stay.
    """
    if not is_dispatched(model):
        return model.to(device=device, dtype=dtype)
    if device in (None, execution_device(model)) and dtype in (None, model.dtype):
        return model
    asked = "dtype" if dtype not in (None, model.dtype) else "device"
    raise ConfigError(
        f"{asked}: accelerate has placed the parts of {_live_name(model)} (on {execution_device(model)}, or "
        "offloaded), and there they stay; leave it out"
    )


def _live_name(model: nn.Module) -> str:
    return getattr(model, "name_or_path", None) or type(model).__name__


def _class_for(config: Any, model_class: Any, name: str) -> type[PerceptualEncoder]:
    """The encoder class that serves models of this kind."""
    if (found := find_encoder(config.model_type, ())) is not None:
        return found
    if model_class is None:
        raise UnsupportedModelError(f"{name}: transformers' AutoModel has no model of type '{config.model_type}'")
    taken = model_class.input_modalities
    modalities = (taken,) if isinstance(taken, str) else tuple(taken)
    found = find_encoder(config.model_type, modalities)
    if found is None:
        raise UnsupportedModelError(
            f"{name}: '{config.model_type}' models take {' and '.join(modalities)}; no encoder is registered for them"
        )
    return found


def _refuse_random_weights(name: str, missing: list[str]) -> None:
    """Transformers fills gaps of a checkpoint with random weights; features must not depend on any."""
    if missing:
        raise UnsupportedModelError(
            f"{name}: its checkpoint lacks {len(missing)} weights that its levels need, first '{min(missing)}'"
        )


def _of_norm(encoder: PerceptualEncoder) -> set[str]:
    """Names of the weights of the final norm, which may be a pooler's."""
    norm = {id(parameter) for parameter in encoder.anatomy.norm.parameters()}
    return {key for key, parameter in encoder.backbone.named_parameters() if id(parameter) in norm}


def _drop_random_pooler(encoder: PerceptualEncoder, missing: list[str]) -> None:
    """A pooler that the checkpoint lacks is random at every load: never read, yet counted and fingerprinted."""
    optional = "add_pooling_layer" in inspect.signature(type(encoder.backbone).__init__).parameters
    if optional and any(key.startswith("pooler.") for key in missing):
        encoder.backbone.pooler = None  # type: ignore[assignment]


@torch.no_grad()
def _still_random_extras(encoder: PerceptualEncoder, missing: list[str]) -> None:
    """What is never read and was not saved would be random at every load, and so would the encoder's fingerprint."""
    for key, parameter in encoder.backbone.named_parameters():
        if key in missing and key.startswith(("classifier.", "masked_spec_embed")):
            parameter.zero_()


def _require_files(name: str, path: Path, json_files: Sequence[str]) -> None:
    """See that what lies in a directory can be an encoder, before anything reads it; of a hub id nothing is known."""
    if is_gguf(path):
        raise UnsupportedModelError(f"{name}: is a GGUF file; encoders are read from directories of transformers alone")
    if not path.is_dir():
        return
    if reason := not_a_model(path) or first_damage(path, json_files):
        raise ConfigError(f"{name}: {reason}")


@contextmanager
def _explained(name: str, path: str | None) -> Iterator[None]:
    """Turn what transformers raises into one line, and keep its report on left-out weights off the screen."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with explained(name, path, UnsupportedModelError):
            yield
    finally:
        logging.set_verbosity(verbosity)
