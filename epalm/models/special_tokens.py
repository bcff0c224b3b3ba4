"""The special tokens of a language model: what a text begins with, what ends it, and what fills up finished rows.

The tokenizer's end token is the one that training teaches. The language model's own generation settings
(`generation_config.json`, else its configuration) may name others, several of them: generation ends at any.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_ALIKE = 0.01
"""Rows of the output embedding that differ by a smaller share of their size were never told apart in training."""
_FAR = 10
"""How many times smaller or larger than the others' a row is that was not trained with them."""
_ROWS = 8192


@dataclass(frozen=True)
class SpecialTokens:
    """What is honoured of a language model's generation settings, and its tokenizer's end token."""

    begin: int | None
    """What generation starts from where there is no text: begin-of-text, else the first end token."""
    end: tuple[int, ...]
    """Any of these ends a text: the generation settings', then the tokenizer's."""
    taught: int | None
    """The tokenizer's, which training puts behind every answer; None without a tokenizer."""
    padding: int | None
    """Fills up rows that have ended: the generation settings', else the first end token."""

    @classmethod
    def of(cls, language_model: Any, tokenizer: Any = None) -> SpecialTokens:
        """Those of a live language model, with or without its tokenizer."""
        own, taught = _own_end_tokens(language_model), _taught(language_model, tokenizer)
        end = tuple(dict.fromkeys(own if taught is None else [*own, taught]))
        begin = [*_of_settings(language_model, "bos_token_id"), *end]
        padding = [*_of_settings(language_model, "pad_token_id"), *end]
        return cls(next(iter(begin), None), end, taught, next(iter(padding), None))


def end_token_warnings(language_model: Any, tokenizer: Any, source: str | None) -> Iterator[str]:
    """What is odd about the end tokens: a line for each, for whoever builds on the language model.

    Args:
        language_model: the frozen causal language model.
        tokenizer: its tokenizer, or None.
        source: where the language model came from.
    """
    taught, own = _taught(language_model, tokenizer), _own_end_tokens(language_model)
    if taught is None:
        return
    name = f"language model {source or type(language_model).__name__}"
    if own and taught not in own:
        others = " and ".join(_spelt(token, tokenizer) for token in own)
        yield (
            f"{name}: its tokenizer ends a text with token {_spelt(taught, tokenizer)}, its generation settings with "
            f"{others}; answers are trained to end with the tokenizer's, and generation ends at any of them; where one "
            "of them is wrong, set it right in tokenizer_config.json or generation_config.json"
        )
    trouble = _untrained(language_model.get_output_embeddings(), taught)
    if trouble:
        yield (
            f"{name}: the row of its output embedding for the end token {_spelt(taught, tokenizer)} {trouble}, as of a "
            "token that it never met in its training; the row is frozen, so answers may not end; choose an end token "
            "that it knows (eos_token in tokenizer_config.json), or another language model"
        )


def _taught(language_model: Any, tokenizer: Any) -> int | None:
    """The tokenizer's end token; another model's, which the language model cannot say, is refused when it is used."""
    return next(iter(_within(language_model, getattr(tokenizer, "eos_token_id", None))), None)


def _own_end_tokens(language_model: Any) -> list[int]:
    """Those of the generation settings, else of the configuration."""
    settled = _of_settings(language_model, "eos_token_id")
    text_config = language_model.config.get_text_config()
    return settled or _within(language_model, getattr(text_config, "eos_token_id", None))


def _of_settings(language_model: Any, name: str) -> list[int]:
    """A special token of the generation settings, or several, or none."""
    return _within(language_model, getattr(language_model.generation_config, name, None))


def _within(language_model: Any, tokens: Any) -> list[int]:
    """One token, several or none, as a list; those that the language model cannot say (-1, say) are left out."""
    rows = language_model.get_output_embeddings().weight.shape[0]
    listed = torch.as_tensor([] if tokens is None else tokens).flatten().tolist()
    return [int(token) for token in listed if 0 <= token < rows]


def _spelt(token: int, tokenizer: Any) -> str:
    """A token for people."""
    text = tokenizer.convert_ids_to_tokens(token) if token < len(tokenizer) else None
    return f"{token} ('{text}')" if text else str(token)


@torch.no_grad()
def _untrained(head: nn.Module, token: int) -> str | None:
    """What shows that a row of the output embedding was never trained; None where nothing does, or cannot be seen."""
    weight: Any = head.weight
    if type(getattr(weight, "data", None)) is not Tensor or weight.is_meta or not weight.is_floating_point():
        return None  # quantised, sharded, or without values
    row = weight[token].float()
    size = float(row.norm())
    if size == 0:
        return "is all zero"
    if not math.isfinite(size):  # of a damaged model; training tells of it
        return None
    sizes, alike = [], -1  # itself
    for part in weight.split(_ROWS):
        part = part.float()
        sizes.append(part.norm(dim=1))
        alike += int(((part - row).norm(dim=1) <= _ALIKE * size).sum())
    if alike:
        return f"is the same as {alike} other{'s' if alike > 1 else ''}"
    usual = float(torch.cat(sizes).median())
    if usual > 0 and not usual / _FAR <= size <= usual * _FAR:
        return f"has {size / usual:.2g} times the size of the others"
    return None
