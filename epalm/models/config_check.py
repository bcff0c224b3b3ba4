"""Whether a language model can be served, from its configuration alone: before gigabytes of weights are read."""

from __future__ import annotations

import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM

from epalm.errors import UnsupportedModelError
from epalm.models.anatomy import ALTERNATIVE, study
from epalm.models.selfcheck import PROVEN, examine


def check_config(
    source: str, path: str, attn_implementation: str | None = None, decoder_layers: str | None = None
) -> None:
    """Refuse a language model that cannot be served.

    It is built without weights and studied, and if nobody has proven its family a small copy of it is examined. Where
    its configuration cannot be read, or no model be built of it, nothing is said: loading it says why.

    Args:
        source: what to call it in a message.
        path: a local directory or a hub id.
        attn_implementation: as it is about to be loaded.
        decoder_layers: see `study`.

    Raises:
        UnsupportedModelError: it cannot be served; one line says why, and what can be.
    """
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    except Exception as error:
        if "trust_remote_code" not in str(error):
            return
        raise UnsupportedModelError(
            f"language model {source}: needs code from its repository, which is never run; {ALTERNATIVE}"
        ) from None
    if getattr(config, "is_encoder_decoder", False):
        raise UnsupportedModelError(
            f"language model {source}: encoder-decoder models ({config.model_type}) are not served; {ALTERNATIVE}"
        )
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UnsupportedModelError(
            f"language model {source}: {config.model_type} is not a causal language model; {ALTERNATIVE}"
        )
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, attn_implementation=attn_implementation)
    except Exception:
        return
    anatomy = study(model, decoder_layers)
    if anatomy.family not in PROVEN:
        examine(model, anatomy)
