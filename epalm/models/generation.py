"""Generation by the language model's own `generate`, on embeddings that hold slots and soft prompt.

transformers gets the embeddings of slots, soft prompt and text once. Cached (the rule): the cache serves the rest.
Uncached (`use_cache=False`, and always with the legacy mask, whose slot keys change with every token): they stand in
front of every call, with all new tokens behind them; transformers itself has no such generation from embeddings. Both
return and stream new tokens only, logits processors and stopping criteria see these alone, and every length counts
them.

How it is generated is said by the caller alone. transformers would fill in whatever the caller leaves open from the
language model's `generation_config.json` (penalties, sampling, suppressed tokens, ...), and the same adapter would
answer otherwise beside another file. Of that file nothing but the special tokens is taken; all else is transformers'
own default.

Shapes: B batch, N = S + P + T tokens in front, R new tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, PreTrainedModel

from epalm.errors import ConfigError
from epalm.models.anatomy import Anatomy
from epalm.models.layout import Layout
from epalm.models.special_tokens import SpecialTokens

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
_DEFAULT_NEW_TOKENS = 20


def generate_after(
    language_model: PreTrainedModel,
    anatomy: Anatomy,
    layout: Layout,
    config: GenerationConfig,
    others: dict[str, Any],
    *,
    use_cache: bool,
) -> Any:
    """New tokens after `layout`; call it inside `injected`.

    Args:
        language_model: the frozen causal language model.
        anatomy: its parts.
        layout: everything in front of the new tokens, left-padded.
        config: see `generation_arguments`.
        others: see `generation_arguments`.
        use_cache: keep keys and values of what has been, or compute everything anew for every token.

    Returns:
        What transformers' `generate` returns, with new tokens only: (B * num_return_sequences, R) ids.
    """
    arguments: dict[str, Any] = {"inputs_embeds": layout.embeddings, "attention_mask": layout.mask}
    if anatomy.takes_position_ids:
        arguments["position_ids"] = layout.positions
    if use_cache and anatomy.slides:
        # A cache made from the configuration drops what is outside the window, and the slots with it.
        arguments["past_key_values"] = DynamicCache()
    whole_calls = nullcontext() if use_cache else _whole_calls(language_model, anatomy, layout)
    with whole_calls, without_own_settings(language_model):
        return language_model.generate(**arguments, generation_config=config, **others)


@contextmanager
def without_own_settings(language_model: PreTrainedModel) -> Iterator[None]:
    """Inside this context the language model has no generation settings of its own to fill in; they stay as they are.

    Holding its lock is the caller's part.
    """
    own = language_model.generation_config
    language_model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        language_model.generation_config = own


def without_front(output: Any, count: int) -> Any:
    """What `generate` returned without the first `count` tokens of every row."""
    if isinstance(output, Tensor):
        return output[:, count:]
    output.sequences = output.sequences[:, count:]
    return output


@contextmanager
def streaming_without_front(streamer: Any) -> Iterator[None]:
    """Inside this context the streamer, if there is one, is not told of the text in front."""
    if streamer is None:
        yield
        return
    put = streamer.put

    def first(value: Tensor) -> None:
        streamer.put = put
        put(value[..., value.shape[-1] :])

    streamer.put = first
    try:
        yield
    finally:
        streamer.put = put


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
    lengths = {
        name: kwargs.pop(name, None) for name in ("max_new_tokens", "max_length", "min_new_tokens", "min_length")
    }
    numbers = lengths | {name: kwargs.get(name) for name in ("num_beams", "num_return_sequences")}
    for name, number in numbers.items():
        least = 0 if name.startswith("min_") else 1
        if number is not None and (not isinstance(number, int) or number < least):
            raise ConfigError(f"generate: {name}: expected a whole number, at least {least}, got {number!r}")
    try:
        others = config.update(**kwargs)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"generate: {' '.join(str(error).split())}") from None
    if config.pad_token_id is None:
        config.pad_token_id = tokens.padding
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


@contextmanager
def _whole_calls(language_model: PreTrainedModel, anatomy: Anatomy, layout: Layout) -> Iterator[None]:
    """Inside this context every call of `generate` gets all that is in front and all new tokens, and keeps no cache."""
    prepare, count = language_model.prepare_inputs_for_generation, layout.mask.shape[1]

    @wraps(prepare)  # transformers looks at what it takes
    def whole(input_ids: Tensor, **kwargs: Any) -> dict[str, Any]:
        front = kwargs["inputs_embeds"]  # (rows, N, W)
        kwargs = {**kwargs, "inputs_embeds": None, "past_key_values": None, "use_cache": False}
        arguments = prepare(input_ids, **kwargs)
        new = language_model.get_input_embeddings()(input_ids)  # (rows, R, W)
        arguments |= {"input_ids": None, "inputs_embeds": torch.cat([front, new.to(front)], dim=1)}
        if anatomy.takes_position_ids:
            positions = kwargs["position_ids"][:, :count]  # (rows, N)
            steps = torch.arange(1, input_ids.shape[1] + 1, device=positions.device)
            arguments["position_ids"] = torch.cat(
                [positions, positions.amax(1, keepdim=True) + steps], dim=1
            )  # (rows, N + R)
        return arguments

    language_model.prepare_inputs_for_generation = whole
    try:
        yield
    finally:
        del language_model.prepare_inputs_for_generation
