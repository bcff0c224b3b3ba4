"""Generation by the language model's own `generate`, on embeddings that hold slots and soft prompt.

transformers gets the embeddings of slots, soft prompt and text once. Cached (the rule): the cache serves the rest.
Uncached (`use_cache=False`, and always with the legacy mask, whose slot keys change with every token): they stand in
front of every call, with all new tokens behind them; transformers itself has no such generation from embeddings. Both
return and stream new tokens only, logits processors and stopping criteria see these alone, and every length counts
them.

What the caller leaves open is settled in `epalm.models.generation_arguments`.

Shapes: B batch, N = S + P + T tokens in front, R new tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, PreTrainedModel

from epalm.models.anatomy import Anatomy
from epalm.models.layout import Layout


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
    if use_cache and (config.num_beams or 1) > 1 and config.cache_implementation is None and layout.mask.shape[1] > 1:
        arguments["past_key_values"] = _filled_cache(language_model, arguments, config.num_beams)
    elif use_cache and anatomy.slides:
        # A cache made from the configuration drops what is outside the window, and the slots with it.
        arguments["past_key_values"] = DynamicCache()
    whole_calls = nullcontext() if use_cache else _whole_calls(language_model, anatomy, layout)
    with whole_calls:
        return generate(language_model, generation_config=config, **arguments, **others)


def generate(language_model: PreTrainedModel, **arguments: Any) -> Any:
    """Continue by transformers' `generate`, without generation settings of the language model's own to fill in.

    Holding its lock is the caller's part.
    """
    with _without_own_settings(language_model), _dense_states_for_the_head(language_model):
        return language_model.generate(**arguments)


def _filled_cache(language_model: PreTrainedModel, arguments: dict[str, Any], beams: int) -> DynamicCache:
    """The cache of all but the last token in front, computed once for the beams of a row; it holds them row by row."""
    cache = DynamicCache()
    front = {name: tensor[:, :-1] for name, tensor in arguments.items()}
    head = language_model.get_output_embeddings()
    no_logits = head.register_forward_pre_hook(lambda module, args: (args[0][:, :0], *args[1:]))
    try:
        language_model(**front, past_key_values=cache, use_cache=True)
    finally:
        no_logits.remove()
    cache.batch_repeat_interleave(beams)
    return cache


@contextmanager
def _without_own_settings(language_model: PreTrainedModel) -> Iterator[None]:
    """Inside this context the language model has no generation settings of its own; they stay as they are."""
    own = language_model.generation_config
    language_model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        language_model.generation_config = own


@contextmanager
def _dense_states_for_the_head(language_model: PreTrainedModel) -> Iterator[None]:
    """Inside this context the output embedding is given states that lie side by side in memory.

    Prefill needs logits of the last position alone, and takes it as a slice of all. Of a slice and a frozen weight
    torch makes a batched product, with a copy of the weight for every row: gigabytes where the vocabulary is large.
    """
    head = language_model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda module, args: (args[0].contiguous(), *args[1:]))
    try:
        yield
    finally:
        hook.remove()


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
