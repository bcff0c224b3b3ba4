"""One way in for every encoder: a hub id, a directory, a toy backbone or a live module -> `PerceptualEncoder`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_MAPPING
from transformers.utils import logging

from epalm.encoders.base import PerceptualEncoder
from epalm.encoders.registry import find_encoder
from epalm.errors import ConfigError, UnsupportedModelError
from epalm.sources import resolve_source

# Poolers and heads lie behind the levels and mask tokens serve pretraining alone: checkpoints of other tasks lack them.
_NEVER_READ = ("pooler.", "head.", "embeddings.mask_token")


def load_encoder(
    source: str | Path | nn.Module,
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
    attn_implementation: str | None = None,
    processor: Any = None,
) -> PerceptualEncoder:
    """Load a frozen encoder and make sure that its levels can be read.

    Of a model with several towers (CLIP, SigLIP) the vision tower is taken, of one with a head the part below it.

    Args:
        source: a hub id, a directory, `toyworld/vit`, or a live Hugging Face model, which is frozen in place.
        dtype: of the weights; by default float32, or what a live model already has.
        device: where to put it; by default the CPU, or where a live model already is.
        attn_implementation: `eager`, `sdpa`, ...; by default transformers' own choice.
        processor: used instead of the encoder's own. A live model brings none and can do without, as long as its inputs
            come ready made.

    Raises:
        ConfigError: the source, its files or its processor configuration cannot be found or read.
        UnsupportedModelError: it is no encoder that can be served, or its checkpoint lacks weights that are needed.
    """
    if isinstance(source, nn.Module):
        backbone = _tower(source)
        if attn_implementation is not None:
            with _explained(_live_name(source)):
                backbone.set_attn_implementation(attn_implementation)
        backbone = backbone.to(device=device, dtype=dtype)
        return _class_for(backbone.config, type(backbone), _live_name(source))(
            backbone, processor, getattr(source, "name_or_path", None) or None
        )
    name, path = str(source), resolve_source(source)
    if path.startswith(("/", ".", "~")) and not Path(path).is_dir():
        raise ConfigError(f"{name}: no such directory")
    with _explained(name):
        # Code from a repository is never run, and never asked for on the terminal.
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    config = getattr(config, "vision_config", None) or config
    encoder_class = _class_for(config, MODEL_MAPPING.get(type(config), None), name)
    if processor is None:
        with _explained(f"{name}: no processor; give load_encoder(..., processor=...) if it has none"):
            processor = encoder_class.load_processor(path)
    with _explained(name):
        backbone, report = AutoModel.from_pretrained(
            path,
            config=config,
            dtype=dtype or torch.float32,
            attn_implementation=attn_implementation,
            trust_remote_code=False,
            output_loading_info=True,
        )
    encoder = encoder_class(backbone.to(device=device), processor, name)
    _refuse_random_weights(encoder, report["missing_keys"])
    _drop_random_pooler(encoder, report["missing_keys"])
    return encoder


def _tower(model: nn.Module) -> PreTrainedModel:
    if not isinstance(model, PreTrainedModel):
        raise UnsupportedModelError(f"{type(model).__name__}: only Hugging Face models can serve as encoders")
    if hasattr(model.config, "vision_config"):
        if not hasattr(model, "vision_model"):
            raise UnsupportedModelError(f"{_live_name(model)}: has no vision tower of its own; give the tower itself")
        return model.vision_model
    return model if MODEL_MAPPING.get(type(model.config), None) is type(model) else model.base_model


def _live_name(model: nn.Module) -> str:
    return getattr(model, "name_or_path", None) or type(model).__name__


def _class_for(config: Any, model_class: Any, name: str) -> type[PerceptualEncoder]:
    """The encoder class that serves models of this kind."""
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


def _refuse_random_weights(encoder: PerceptualEncoder, missing: list[str]) -> None:
    """Transformers fills gaps of a checkpoint with random weights; features must not depend on any."""
    norm = {id(parameter) for parameter in encoder.anatomy.norm.parameters()}
    of_norm = {key for key, parameter in encoder.backbone.named_parameters() if id(parameter) in norm}
    needed = sorted(key for key in missing if key in of_norm or not key.startswith(_NEVER_READ))
    if needed:
        raise UnsupportedModelError(
            f"{encoder.name}: its checkpoint lacks {len(needed)} weights that its levels need, first '{needed[0]}'"
        )


def _drop_random_pooler(encoder: PerceptualEncoder, missing: list[str]) -> None:
    """A pooler that the checkpoint lacks is random at every load: never read, yet counted and fingerprinted."""
    optional = "add_pooling_layer" in inspect.signature(type(encoder.backbone).__init__).parameters
    if optional and any(key.startswith("pooler.") for key in missing):
        encoder.backbone.pooler = None  # type: ignore[assignment]


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what transformers raises into one line, and keep its report on left-out weights off the screen."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{name}: {_one_line(error)}") from None
    except (ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise UnsupportedModelError(f"{name}: {_one_line(error)}") from None
    finally:
        logging.set_verbosity(verbosity)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
