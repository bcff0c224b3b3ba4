"""A question and its answer as turns of a chat, as the tokenizer's own chat template writes them.

The question is the user's turn, the answer the assistant's. What stands around the two is found by writing them with
words in their places, so that questions and answers enter as they are, whatever a template would do to them.

What a template writes itself, such as a system prompt, stays. Thinking is switched off where the template knows how
(`enable_thinking`), and the day is always the same, for an adapter must answer tomorrow as it does today.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from epalm.errors import UnsupportedModelError
from epalm.tasks.template import Prompt

_QUESTION = "Quéstion \"is\" <in> 'its' & place"
_ANSWER = "Answèr \"is\" <in> 'its' & place"
"""Whatever a template escapes, or turns into other letters, is in them."""
_DATE = {
    "%-d": "26", "%d": "26", "%-m": "7", "%m": "07", "%b": "Jul", "%B": "July", "%y": "24", "%Y": "2024",
    "%a": "Fri", "%A": "Friday", "%H": "00", "%M": "00", "%S": "00",
}  # fmt: skip
"""The day that Llama 3's template takes where it knows none."""
_FIXED_CLOCK = (
    "{%- macro strftime_now(format) -%}{{- format"
    + "".join(f"|replace('{code}', '{text}')" for code, text in _DATE.items())
    + " -}}{%- endmacro %}\n"  # the line break goes with the block
)


class ChatTemplate:
    """The chat template of one tokenizer.

    Args:
        tokenizer: of the language model.
        control_tokens: its control tokens, as they are written.

    Raises:
        UnsupportedModelError: it has no chat template, or one that a question and its answer cannot be written with.
    """

    def __init__(self, tokenizer: Any, control_tokens: Collection[str]) -> None:
        self._tokenizer, self._control_tokens = tokenizer, control_tokens
        self._name = getattr(tokenizer, "name_or_path", None) or type(tokenizer).__name__
        if not getattr(tokenizer, "chat_template", None):
            raise UnsupportedModelError(
                f"text.chat_template: the tokenizer {self._name} has no chat template; leave the setting false, or put "
                "the model's chat_template.jinja beside the tokenizer"
            )
        self._fronts: dict[str, str] = {}
        front, tail = self._write(_QUESTION)
        self._before, found, self._after = front.partition(_QUESTION)
        if not found or _QUESTION in self._after:
            raise self._error("does not write the user's turn as it is, once")
        self.context = self._after.rstrip(" ")
        """What stands between any question and its answer; without spaces at the end, which belong to the answer."""
        self.lead = self._after[len(self.context) :]
        """Spaces in front of an answer."""
        self.tail, self.end_id = self._end(tail)
        """White space behind an answer, and the token that ends the assistant's turn; None: the template has none."""

    def wrap(self, prompt: Prompt) -> Prompt:
        """What the language model is given: `prompt` as the user's turn, and all up to the assistant's answer.

        Raises:
            UnsupportedModelError: the chat template refuses the turn, such as an empty one.
        """
        if prompt.question:
            return Prompt(self._before + prompt.before, prompt.question, prompt.after + self.context)
        turn = prompt.text  # of captions, always the same
        if turn not in self._fronts:
            self._fronts[turn] = self._write(turn)[0].rstrip(" ")
        return Prompt(after=self._fronts[turn])

    def _write(self, turn: str) -> tuple[str, str]:
        """What stands in front of the answer to `turn`, and behind it."""
        user = {"role": "user", "content": turn}
        asked = self._render([user], add_generation_prompt=True)
        answered = self._render([user, {"role": "assistant", "content": _ANSWER}])
        if answered.count(_ANSWER) != 1:
            raise self._error("does not write the assistant's turn as it is, once")
        front, _, tail = answered.partition(_ANSWER)
        # Where the generation prompt leaves thinking open, an answer stands where the template writes those given.
        is_open = asked.rfind("<think>") > asked.rfind("</think>")
        return (front if is_open or front.startswith(asked) else asked), tail

    def _render(self, conversation: Sequence[dict[str, str]], **options: Any) -> str:
        try:
            template = self._tokenizer.get_chat_template()
            if "strftime_now" in template:
                options["chat_template"] = _FIXED_CLOCK + template
            text = self._tokenizer.apply_chat_template(
                list(conversation), tokenize=False, enable_thinking=False, **options
            )
        except Exception as error:  # whatever code in a template raises
            role, content = conversation[-1].values()
            reason = " ".join(str(error).split())
            if not content:
                remedy = "give captions an instruction (text.caption_cue)"
                raise self._error(f"refuses an empty user's turn: {reason}", remedy) from None
            raise self._error(f"refuses a turn of the {role}: {reason}") from None
        return str(text)

    def _end(self, tail: str) -> tuple[str, int | None]:
        """The white space at the beginning of `tail`, and the control token that follows it, if one does."""
        rest = tail.lstrip()
        names = [name for name in self._control_tokens if rest.startswith(name)]
        if not names:
            return "", None
        return tail[: len(tail) - len(rest)], int(self._tokenizer.convert_tokens_to_ids(max(names, key=len)))

    def _error(self, reason: str, remedy: str = "leave the setting false") -> UnsupportedModelError:
        return UnsupportedModelError(f"text.chat_template: the chat template of {self._name} {reason}; {remedy}")
