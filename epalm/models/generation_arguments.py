"""The arguments of one call of `generate`: all that decides how it goes, said by the caller or transformers' default.

transformers would fill in whatever the caller leaves open from the language model's `generation_config.json`
(penalties, sampling, suppressed tokens, ...), and the same adapter would answer otherwise beside another file. Of that
file nothing but the special tokens is taken.

Shapes: B batch, T text tokens.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor
from transformers import GenerationConfig

from epalm.errors import ConfigError
from epalm.models.anatomy import Anatomy
from epalm.models.special_tokens import SpecialTokens
from epalm.models.token_suppression import SuppressTokens

_NOT_SERVED = (
    "assistant_early_exit",
    "assistant_model",
    "constraints",
    "custom_generate",
    "dola_layers",
    "force_words_ids",
    "forced_bos_token_id",
    "guidance_scale",
    "inputs",
    "inputs_embeds",
    "negative_prompt_attention_mask",
    "negative_prompt_ids",
    "num_beam_groups",
    "past_key_values",
    "penalty_alpha",
    "position_ids",
    "prefill_chunk_size",
    "prompt_lookup_num_tokens",
    "token_healing",
    "use_mtp",
)
"""What would need the text as tokens in front, would run code from the hub, or is ours to say."""
_NEUTRAL = {"guidance_scale": 1, "num_beam_groups": 1, "penalty_alpha": 0}
"""Values of these that do nothing, as configurations may spell them out."""
_LENGTHS = {"max_new_tokens": 1, "max_length": 1, "min_new_tokens": 0, "min_length": 0}
"""What they must be at least."""
_COUNTS = {"num_beams": 1, "num_return_sequences": 1}
"""Likewise."""
_DEFAULT_NEW_TOKENS = 20


def generation_arguments(
    anatomy: Anatomy, tokens: SpecialTokens, mask: Tensor, kwargs: dict[str, Any]
) -> tuple[GenerationConfig, dict[str, Any]]:
    """The whole configuration of one call, every length counting new tokens, and the arguments that are none of it.

    Args:
        anatomy: the language model's.
        tokens: what ends a text, and fills up finished rows, where the caller does not say.
        mask: (B, T) of the text; no more new tokens are asked for than there are positions after it.
        kwargs: `generate`'s, as the caller gave them: those for a `GenerationConfig` count before `generation_config`.

    Raises:
        ConfigError: an argument cannot be served, or is out of range.
    """
    kwargs = dict(kwargs)
    given = kwargs.pop("generation_config", None)
    if not isinstance(given, GenerationConfig | None):
        raise ConfigError(f"generate: generation_config: expected a GenerationConfig, got a {type(given).__name__}")
    config = GenerationConfig() if given is None else copy.deepcopy(given)
    for name in _NOT_SERVED:
        if _is_asked_for(name, kwargs.get(name)) or _is_asked_for(name, getattr(config, name, None)):
            raise ConfigError(f"generate: {name} cannot be combined with perception and a soft prompt")
    if config.eos_token_id is None:
        config.eos_token_id = list(tokens.end) or None
    for name, least in (_LENGTHS | _COUNTS).items():
        number = kwargs.get(name)
        if number is not None and (not isinstance(number, int) or number < least):
            raise ConfigError(f"generate: {name}: expected a whole number, at least {least}, got {number!r}")
    lengths = {name: kwargs.pop(name, None) for name in _LENGTHS}
    try:
        others = config.update(**kwargs)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"generate: {' '.join(str(error).split())}") from None
    if config.pad_token_id is None:
        config.pad_token_id = tokens.padding
    if config.suppress_tokens is not None:
        suppress = SuppressTokens(config.suppress_tokens, anatomy.vocabulary)
        others["logits_processor"] = [suppress, *(others.get("logits_processor") or ())]
        config.suppress_tokens = None
    if anatomy.slides and config.cache_implementation is not None:
        raise ConfigError(
            f"generate: cache_implementation '{config.cache_implementation}' would forget the perception of a "
            f"language model with sliding windows ({anatomy.family}); leave it out"
        )
    most = _length(lengths, config, "max")
    most = _DEFAULT_NEW_TOKENS if most is None else most
    config.max_new_tokens = most if anatomy.position_limit is None else min(most, _room(mask, anatomy.position_limit))
    config.min_new_tokens = _length(lengths, config, "min")
    # transformers would take these for the length of everything, where we said how many tokens are new
    config.max_length = config.min_length = None
    # a compiled forward would keep the hooks of the call it was traced in
    config.disable_compile = True
    return config, others


def _is_asked_for(name: str, value: Any) -> bool:
    """Whether an argument has another value than one that does nothing."""
    return value is not None and value is not False and not (name in _NEUTRAL and value == _NEUTRAL[name])


def _length(lengths: dict[str, Any], config: GenerationConfig, end: str) -> int | None:
    """How many new tokens there are at most (`max`) or least (`min`): as the call says, else its configuration."""
    names = (f"{end}_new_tokens", f"{end}_length")
    said = [*(lengths[name] for name in names), *(getattr(config, name) for name in names)]
    return next((length for length in said if length is not None), None)


def _room(mask: Tensor, limit: int) -> int:
    """How many new tokens there are positions for; the last one needs none."""
    return limit + 1 - int(mask.sum(1).max())
