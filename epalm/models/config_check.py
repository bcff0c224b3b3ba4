"""Whether a language model can be served, from its configuration alone: before gigabytes of weights are read."""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM

from epalm.errors import UnsupportedModelError
from epalm.models.anatomy import ALTERNATIVE, study, text_config
from epalm.models.selfcheck import PROVEN, examine


def check_config(
    config: Any, source: str, attn_implementation: str | None = None, decoder_layers: str | None = None
) -> None:
    """Refuse a language model that cannot be served.

    It is built without weights and studied, and if nobody has proven its family a small copy of it is examined. Where
    it cannot be built, nothing is said: loading it says why.

    Args:
        config: its configuration.
        source: what to call it in a message.
        attn_implementation: as it is about to be loaded.
        decoder_layers: see `study`.

    Raises:
        UnsupportedModelError: it cannot be served; one line says why, and what can be.
    """
    require_causal(config, source)
    if attn_implementation is not None:
        config = copy.deepcopy(config)
        config._attn_implementation = attn_implementation  # whatever it names itself
    text_config(config)
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, attn_implementation=attn_implementation)
    except Exception:  # whatever a foreign family raises
        return
    anatomy = study(model, decoder_layers)
    if anatomy.family not in PROVEN:
        examine(model, anatomy)


def require_causal(config: Any, source: str) -> None:
    """See that transformers opens what `config` describes as a causal language model.

    Raises:
        UnsupportedModelError: it does not.
    """
    if getattr(config, "is_encoder_decoder", False):
        reason = f"encoder-decoder models ({config.model_type}) are not served"
    elif type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        reason = f"{config.model_type} is not a causal language model"
    else:
        return
    raise UnsupportedModelError(f"language model {source}: {reason}; {ALTERNATIVE}")
