"""How one tokenizer writes a prompt, what follows it, and the end.

Prompt and target are tokenised apart, so that training and generation part the text at the same token: at generation
there is only the prompt, and a token that reached over the border would never have been in it. Tokenizers differ in who
writes the space between the two, in what they put in front of a text, and in which special tokens they have; that is
all settled here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import takewhile
from typing import Any

from epalm.errors import UnsupportedModelError
from epalm.runtime.locks import lock_of
from epalm.tasks.chat_template import ChatTemplate
from epalm.tasks.control_tokens import ControlTokens
from epalm.tasks.template import Prompt

_REPLACEMENT = "\ufffd"  # what decoders write for bytes that are no character


class TaskTokenizer:
    """Text to tokens and back, for any Hugging Face tokenizer.

    Args:
        tokenizer: of the language model.
        mark: text that is one token at the end of a prompt: the one that the tokenizer has for it, else the number
            behind its last. Empty: none is.
        split_special_tokens: see `TextTemplate`.
        chat_template: see `TextTemplate`.

    Raises:
        UnsupportedModelError: there is no tokenizer, or it has no end token; see also `ChatTemplate`.
    """

    def __init__(
        self, tokenizer: Any, mark: str = "", split_special_tokens: bool = True, *, chat_template: bool = False
    ) -> None:
        if tokenizer is None:
            raise UnsupportedModelError(
                "the language model has no tokenizer beside it; save one beside it, or pass one as `tokenizer=`"
            )
        if tokenizer.eos_token_id is None:
            raise UnsupportedModelError(
                "the tokenizer has no end-of-text token, so an answer could never end; set tokenizer.eos_token"
            )
        self._tokenizer = tokenizer
        control_tokens = ControlTokens(tokenizer, mark) if split_special_tokens or chat_template else None
        self._control_tokens = control_tokens if split_special_tokens else None
        self._chat = ChatTemplate(tokenizer, control_tokens.names) if control_tokens and chat_template else None
        own_end: int = tokenizer.eos_token_id
        self.eos_id = own_end if self._chat is None or self._chat.end_id is None else self._chat.end_id
        """Ends every target."""
        self.end_ids = frozenset({self.eos_id, own_end})
        """End a generated text."""
        self.pad_id: int = self.eos_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        """Fills up batches: the tokenizer's own, else the end token; being masked, it changes nothing."""
        self.mark = mark
        """Text that is one token at the end of a prompt; empty: none is."""
        self._mark_id: int = tokenizer.get_vocab().get(mark, len(tokenizer)) if mark else -1
        self._front = self._tokens_in_front()
        # An empty prompt would leave generation nothing to start from.
        self._start = self._front or [self.eos_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id]
        self._writes_space = self._writes_space_itself()

    def turns(self, prompt: Prompt) -> Prompt:
        """`prompt` as the chat template has it, up to the answer; without one, as it is.

        Raises:
            UnsupportedModelError: see `ChatTemplate.wrap`.
        """
        return prompt if self._chat is None else self._chat.wrap(prompt)

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """What the tokenizer puts in front of a text, then `prompt`; of both nothing: begin-of-text, else end-of-text.

        A chat template itself says what stands in front.

        Args:
            prompt: see `turns`.

        Raises:
            DataError: see `ControlTokens.encode`.
        """
        before, data, after = prompt
        if self._chat is not None:
            return self._encode(before, data, after) or list(self._start)
        marked = bool(self.mark) and after.endswith(self.mark)
        ids = self._encode(before, data, after.removesuffix(self.mark) if marked else after)
        if self._control_tokens is None or ids[: len(self._front)] != self._front:  # the template may bring its own
            ids = [*self._front, *ids]
        return [*ids, self._mark_id] if marked else ids or list(self._start)

    def target_ids(self, text: str, prompt: str) -> list[int]:
        """`text` as it stands after `prompt`, then the end token.

        Raises:
            DataError: see `ControlTokens.encode`.
        """
        if self._chat is not None:
            return [*self._answer_ids(text, self._chat), self.eos_id]
        marked = bool(self.mark) and prompt.endswith(self.mark)
        space = bool(prompt) and not prompt[-1].isspace() and not self._writes_space and not marked
        return [*self._encode("", f" {text}" if space else text), self.eos_id]

    def decode(self, ids: Sequence[int], end_ids: Collection[int] = ()) -> str:
        """Generated tokens as text, up to the first end token; without one, up to the last whole character.

        Args:
            ids: the tokens.
            end_ids: end tokens beside the tokenizer's own.
        """
        ends = self.end_ids.union(end_ids)
        text_ids = list(takewhile(lambda token: token not in ends, ids))
        is_cut = len(text_ids) == len(ids)
        # Cleaning up would rewrite spaces that the language model has learned to write.
        text: str = self._tokenizer.decode(text_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text.rstrip(_REPLACEMENT) if is_cut else text

    def _answer_ids(self, text: str, chat: ChatTemplate) -> list[int]:
        """`text` as it is tokenised within the chat; on its own, where a token would reach over the border."""
        context = self._encode("", "", chat.context)
        ids = self._encode(chat.context, chat.lead + text, chat.tail)
        if ids[: len(context)] == context:
            return ids[len(context) :]
        lead = "" if self._writes_space else chat.lead
        return self._encode("", lead + text, chat.tail)

    def _encode(self, before: str, data: str = "", after: str = "") -> list[int]:
        if self._control_tokens is None:
            return self._ids(before + data + after) if before or data or after else []
        return self._control_tokens.encode(before, data, after)

    def _ids(self, text: str) -> list[int]:
        with lock_of(self._tokenizer):
            return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _tokens_in_front(self) -> list[int]:
        """What the tokenizer puts in front of every text: begin-of-text, or nothing."""
        bare, full = self._ids("x"), list(self._tokenizer("x")["input_ids"])
        places = range(len(full) - len(bare) + 1)
        first = next((place for place in places if full[place : place + len(bare)] == bare), 0)
        return full[:first]

    def _writes_space_itself(self) -> bool:
        """Whether two words tokenised apart read as two words, as with SentencePiece's leading space."""
        joined: str = self._tokenizer.decode([*self._ids("x"), *self._ids("y")], clean_up_tokenization_spaces=False)
        return " " in joined.strip()
