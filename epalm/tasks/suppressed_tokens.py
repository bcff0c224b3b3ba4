"""Tokens that no answer has: they are kept from being generated (`generation.suppress_special_tokens`).

A language model may give them a high score all the same, since nobody taught it when not to say them: Gemma, frozen and
with a few trained vectors in front, says `<unused42>` and `<start_of_image>`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from epalm.tasks.control_tokens import ControlTokens

_RESERVED = re.compile(
    r"<[|｜].*[|｜]>|[<\[]/?\w*(unused|reserved|multimodal|image|audio|video|vision|start_of|end_of)\w*[>\]]",
    re.IGNORECASE | re.DOTALL,
)
"""Added tokens that are control tokens by their name alone: not every tokenizer says of Gemma's `<unused42>` and
`<start_of_image>`, or of Qwen's `<|fim_prefix|>`, that they are special; of `<h1>` and line breaks none does."""
_NAMED = 16


@dataclass(frozen=True)
class SuppressedTokens:
    """Those of a tokenizer and its language model."""

    tokens: dict[str, int]
    """Control tokens and their numbers, by number."""
    rows: tuple[int, ...]
    """Rows of the output embedding that no token of the tokenizer stands for, as in a padded vocabulary."""

    @classmethod
    def find(cls, tokenizer: Any, vocabulary: int, ends: Collection[int], mark: str = "") -> SuppressedTokens:
        """All control tokens but those that end a text.

        Args:
            tokenizer: of the language model.
            vocabulary: rows of its output embedding.
            ends: tokens that end a text.
            mark: an answer mark that is a token.
        """
        numbers: dict[str, int] = tokenizer.get_vocab()
        added: dict[str, int] = getattr(tokenizer, "get_added_vocab", dict)()  # mistral-common's has none
        names = {*ControlTokens(tokenizer).names, *filter(_RESERVED.fullmatch, added), *({mark} & added.keys())}
        found = {name: int(tokenizer.convert_tokens_to_ids(name)) for name in names}
        found = {name: number for name, number in found.items() if number < vocabulary and number not in ends}
        rows = set(range(vocabulary)).difference(numbers.values(), ends, found.values())
        return cls(dict(sorted(found.items(), key=lambda item: item[1])), tuple(sorted(rows)))

    @property
    def ids(self) -> list[int]:
        """Their numbers."""
        return [*self.tokens.values(), *self.rows]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: how many, and the names of the first."""
        names = list(self.tokens)
        more = [f"... and {len(names) - _NAMED:,} more"] if len(names) > _NAMED else []
        return {"tokens": len(names), "names": names[:_NAMED] + more, "rows_without_token": len(self.rows)}
