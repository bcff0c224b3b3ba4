"""Text as tokens in which only the template's own words become control tokens, such as end-of-text.

A tokenizer reads `</s>` in a caption as its end token. transformers' `split_special_tokens` splits it, but not where
the token is added without being `special` (`<think>` of Qwen 3), and not where the tokenizer's model knows it as a
piece (Unigram) or a word. What holds everywhere is a second tokenizer with the same numbers, in which control tokens
have names that no text contains. It is asked only where the first one found a control token in data, so that ordinary
text is tokenised as it always is.
"""

from __future__ import annotations

import json
import reprlib
import secrets
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from tokenizers import Tokenizer

from epalm.errors import DataError
from epalm.runtime.locks import lock_of


class ControlTokens:
    """The control tokens of a Hugging Face tokenizer: special ones, and those that its chat template writes.

    Args:
        tokenizer: of the language model.
        mark: a further one, where the tokenizer has it; empty: none.
    """

    def __init__(self, tokenizer: Any, mark: str = "") -> None:
        self._tokenizer = tokenizer
        chat = str(getattr(tokenizer, "chat_template", None) or "")
        decoder = getattr(tokenizer, "added_tokens_decoder", None)
        added = decoder.values() if isinstance(decoder, Mapping) else ()  # that of mistral-common has none
        names = {str(token) for token in tokenizer.all_special_tokens}
        names |= {token.content for token in added if token.special or _is_of_chat(token.content, chat)}
        self.names = frozenset(name for name in {*names, mark} if name and self._has(name))
        """As they are written."""
        meaningful = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
        self._unknown = tokenizer.unk_token if tokenizer.unk_token_id not in meaningful else None
        numbers = {tokenizer.convert_tokens_to_ids(name) for name in self.names if name != self._unknown}
        self.ids = frozenset(numbers)
        """Their numbers, without the one of the unknown token: any text may hold what a tokenizer does not know."""

    def encode(self, before: str, data: str = "", after: str = "") -> list[int]:
        """Tokens of the three texts in a row, nothing in front of them, with no control token out of `data`.

        Raises:
            DataError: the tokenizer cannot write `data` without one.
        """
        text = before + data + after
        ids = self._encode(text) if text else []
        found = self._among(ids)
        named_unknown = bool(self._unknown) and str(self._unknown) in data
        if not named_unknown and (not found or not data):
            return ids
        of_template = self._among(self._encode(f"{before} {after}")) if before or after else []
        if found == of_template and not named_unknown:
            return ids
        if self._renamed is not None:
            return self._renamed.encode(before, data, after, self.ids)
        if not of_template:
            ids = self._encode(text, split_special_tokens=True)
            if not self._among(ids):
                return ids
        name = next((name for name in sorted(self.names) if name in data), "text")
        raise DataError(
            f"{reprlib.repr(data)} holds {name}, which the tokenizer can only write as a control token; take it out"
        )

    def _encode(self, text: str, **options: Any) -> list[int]:
        with lock_of(self._tokenizer):  # which keeps the options of the call it is in
            return list(self._tokenizer(text, add_special_tokens=False, **options)["input_ids"])

    def _among(self, ids: Sequence[int]) -> list[int]:
        return [number for number in ids if number in self.ids]

    def _has(self, name: str) -> bool:
        number = self._tokenizer.convert_tokens_to_ids(name)
        return number is not None and bool(self._tokenizer.convert_ids_to_tokens(number) == name)

    @cached_property
    def _renamed(self) -> _Renamed | None:
        """The second tokenizer; None: the first is written in Python, or in parts that cannot be copied."""
        try:
            return _rename(self._tokenizer.backend_tokenizer, self.names)
        except Exception:  # AttributeError, or what tokenizers raises where a part is Python code: a bare Exception
            return None


class _Renamed(NamedTuple):
    tokenizer: Tokenizer
    names: dict[str, str]
    """Control token that texts are searched for -> what it is called here."""

    def encode(self, before: str, data: str, after: str, control: frozenset[int]) -> list[int]:
        for name, private in sorted(self.names.items(), key=lambda item: -len(item[0])):
            before, after = before.replace(name, private), after.replace(name, private)
        text = before + data + after
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        # A control token that no word of the template became stands for what the tokenizer does not know.
        written = {*self.names.values()}
        return [
            number
            for number, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
            if number not in control or text[start:end].strip() in written
        ]


@lru_cache(maxsize=1)  # seconds for a large vocabulary, and all tasks of a run share their tokenizer
def _rename(tokenizer: Tokenizer, names: frozenset[str]) -> _Renamed:
    """A copy of `tokenizer` with other names for some tokens, wherever they stand in it; numbers stay."""
    spec = json.loads(tokenizer.to_str())
    key = secrets.token_hex(8)
    # From the private use area, of which neither texts nor normalisers know anything.
    renamed = {name: f"\ue000{key}{number}\ue001" for number, name in enumerate(sorted(names))}
    spec["truncation"] = spec["padding"] = spec["post_processor"] = None
    for token in spec["added_tokens"]:
        if token["content"] in renamed:
            token.update(content=renamed[token["content"]], normalized=False)
    model = spec["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {renamed.get(name, name): number for name, number in model["vocab"].items()}
    else:
        model["vocab"] = [[renamed.get(name, name), score] for name, score in model["vocab"]]
    if model.get("merges"):
        model["merges"] = [pair for pair in model["merges"] if names.isdisjoint((*pair, "".join(pair)))]
    if model.get("unk_token"):
        model["unk_token"] = renamed.get(model["unk_token"], model["unk_token"])
    searched = {token.content for token in tokenizer.get_added_tokens_decoder().values()} & names
    return _Renamed(Tokenizer.from_str(json.dumps(spec)), {name: renamed[name] for name in searched})


def _is_of_chat(name: str, chat_template: str) -> bool:
    """Whether a chat template writes an added token; its words, white space and punctuation are ordinary text."""
    letters = [letter.isalnum() for letter in name.strip("▁ \n\t")]
    return name in chat_template and any(letters) and not all(letters)
