"""Generation by the language model's own `generate`, on embeddings that hold slots and soft prompt.

transformers gets the embeddings of slots, soft prompt and text once. Cached (the rule): the cache serves the rest.
Uncached (`use_cache=False`, and always with the legacy mask, whose slot keys change with every token): they stand in
front of every call, with all new tokens behind them; transformers itself has no such generation from embeddings. Both
return and stream new tokens only, logits processors and stopping criteria see these alone, and every length counts
them.

Shapes: B batch, N = S + P + T tokens in front, R new tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from epalm.errors import ConfigError
from epalm.models.anatomy import Anatomy
from epalm.models.layout import Layout

_NOT_SERVED = (
    "assistant_model",
    "custom_generate",
    "forced_bos_token_id",
    "guidance_scale",
    "inputs",
    "inputs_embeds",
    "negative_prompt_attention_mask",
    "negative_prompt_ids",
    "past_key_values",
    "position_ids",
    "prefill_chunk_size",
    "prompt_lookup_num_tokens",
)
_OURS = ("max_new_tokens", "max_length", "min_new_tokens", "min_length", "pad_token_id", "cache_implementation")
_DEFAULT_NEW_TOKENS = 20


def generate_after(language_model: PreTrainedModel, anatomy: Anatomy, layout: Layout, kwargs: dict[str, Any]) -> Any:
    """New tokens after `layout`; call it inside `injected`.

    Args:
        language_model: the frozen causal language model.
        anatomy: its parts.
        layout: everything in front of the new tokens, left-padded.
        kwargs: `generation_arguments`.

    Returns:
        What transformers' `generate` returns, with new tokens only: (B * num_return_sequences, R) ids.
    """
    arguments: dict[str, Any] = {"inputs_embeds": layout.embeddings, "attention_mask": layout.mask}
    if anatomy.takes_position_ids:
        arguments["position_ids"] = layout.positions
    if kwargs.pop("use_cache", True):
        if anatomy.slides:
            # A cache made from the configuration drops what is outside the window, and the slots with it.
            arguments["past_key_values"] = DynamicCache()
        return language_model.generate(**arguments, **kwargs)
    with _whole_calls(language_model, anatomy, layout):
        return language_model.generate(**arguments, **kwargs)


def without_front(output: Any, count: int) -> Any:
    """What `generate` returned without the first `count` tokens of every row."""
    if isinstance(output, Tensor):
        return output[:, count:]
    output.sequences = output.sequences[:, count:]
    return output


@contextmanager
def streaming_without_front(kwargs: dict[str, Any]) -> Iterator[None]:
    """Inside this context the streamer in `kwargs`, if there is one, is not told of the text in front."""
    streamer = kwargs.get("streamer")
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
    language_model: PreTrainedModel, anatomy: Anatomy, mask: Tensor, kwargs: dict[str, Any]
) -> dict[str, Any]:
    """`generate`'s arguments with every length counting new tokens, and a padding token for finished rows.

    Args:
        language_model: the frozen causal language model.
        anatomy: its parts.
        mask: (B, T) of the text; no more new tokens are asked for than there are positions after it.
        kwargs: as the user gave them.

    Raises:
        ConfigError: an argument cannot be served.
    """
    kwargs, defaults = dict(kwargs), language_model.generation_config
    config = copy.deepcopy(kwargs.pop("generation_config", None))
    for name in _NOT_SERVED:
        if kwargs.get(name) is not None or getattr(config, name, None) is not None:
            raise ConfigError(f"generate: {name} cannot be combined with perception and a soft prompt")
    asked = {name: kwargs.pop(name, None) for name in _OURS}
    if config is not None:
        asked = {name: getattr(config, name, None) if value is None else value for name, value in asked.items()}
        # transformers would take `max_length` for the length of everything, where we said how many tokens are new
        config.max_length = config.min_length = None
        kwargs["generation_config"] = config
    most = _first(asked["max_new_tokens"], asked["max_length"], defaults.max_new_tokens, _DEFAULT_NEW_TOKENS)
    settled = {
        "max_new_tokens": most if anatomy.position_limit is None else min(most, _room(mask, anatomy.position_limit)),
        "min_new_tokens": _first(asked["min_new_tokens"], asked["min_length"]),
        "pad_token_id": asked["pad_token_id"],
        "cache_implementation": asked["cache_implementation"],
        # a compiled forward would keep the hooks of the call it was traced in
        "disable_compile": True,
    }
    if anatomy.slides and settled["cache_implementation"] is not None:
        raise ConfigError(
            f"generate: cache_implementation '{settled['cache_implementation']}' would forget the perception of a "
            f"language model with sliding windows ({anatomy.family}); leave it out"
        )
    if settled["pad_token_id"] is None and defaults.pad_token_id is None:
        eos = defaults.eos_token_id
        settled["pad_token_id"] = eos[0] if isinstance(eos, list) else eos
    for name, value in settled.items():
        if config is not None:
            setattr(config, name, value)
        elif value is not None:
            kwargs[name] = value
    return kwargs


def _first(*values: Any) -> Any:
    """The first that is given."""
    return next((value for value in values if value is not None), None)


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
