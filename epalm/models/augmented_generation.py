"""What an augmented language model says: generation, and ranking of a closed set of answers.

Shapes: B batch, T text tokens, R new tokens, K levels, E encoder width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from epalm.errors import ConfigError, DataError
from epalm.models.augmented_parts import AugmentedParts
from epalm.models.call_arguments import answers_of
from epalm.models.generation import generate, generate_after, streaming_without_front, without_front
from epalm.models.generation_arguments import generation_arguments
from epalm.models.layout import to_left_padding
from epalm.models.perception import Features, Pixels, RawInputs
from epalm.models.ranking import AnswersAfter, Ranked, search
from epalm.models.special_tokens import SpecialTokens
from epalm.runtime.locks import one_thread_at_a_time


class AugmentedGeneration(AugmentedParts):
    """Base of `AugmentedLM`: what it says after a text."""

    @torch.no_grad()
    @one_thread_at_a_time
    def generate(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        features: Features | None = None,
        pixel_values: Pixels | None = None,
        inputs: RawInputs | None = None,
        keep_padding: bool = False,
        **generate_kwargs: Any,
    ) -> Any:
        """Continue the text: transformers' `generate`, with its arguments.

        Perception is computed once and enters at prefill; the KV cache serves the rest. All lengths, `max_length`
        too, count new tokens (default: 20), and end where a learned table of positions does. Right padding is turned
        into left padding first.

        Whatever is not said here has transformers' own default, greedy search that is, and not what the language
        model's `generation_config.json` asks for. Of that file only the special tokens count: generation ends at any
        of its end tokens, and at the tokenizer's. To use the file as a whole, give it as `generation_config`.

        Args:
            input_ids: (B, T); unset: the language model's BOS token, else its EOS token.
            attention_mask: (B, T), 1 for real tokens; unset: all are.
            features: see `forward`.
            pixel_values: see `encode`.
            inputs: see `encode`.
            keep_padding: leave right padding where it is and generate behind it, without a cache, as the original did.
            generate_kwargs: `generation_config`, sampling, beams, `num_return_sequences`, ... as transformers has them.

        Returns:
            New tokens only, (B * num_return_sequences, R), or what `return_dict_in_generate` asks for.

        Raises:
            DataError: something is not a tensor of the right kind or shape, or perception is not of finite numbers.
            ConfigError: an argument cannot be combined with perception, or is out of range.
        """
        vectors = self.perception(features, pixel_values, inputs, must_be_finite=True)
        if input_ids is None:
            if attention_mask is not None:
                raise DataError("attention_mask: is given without input_ids; give both, or neither")
            input_ids = self._beginning(vectors)
        ids, mask = self._placed(*self._text(input_ids, attention_mask))
        if not keep_padding:
            ids, mask = to_left_padding(ids, mask)
        config, others = generation_arguments(
            self.anatomy, self.special_tokens, self._counted(mask, vectors), generate_kwargs
        )
        if not vectors and self.prompt is None:
            with self._blocks_adapted(), streaming_without_front(others.get("streamer")):
                output = generate(
                    self.language_model, input_ids=ids, attention_mask=mask, generation_config=config, **others
                )
            return without_front(output, ids.shape[1])
        # A cache would count positions on from the padding's, or keep a slot that changes.
        use_cache = (
            config.use_cache is not False and not keep_padding and not (vectors and self.config.mask == "legacy")
        )
        layout = self._lay_out(ids, mask, vectors)
        with self._running(layout, vectors):
            return generate_after(self.language_model, self.anatomy, layout, config, others, use_cache=use_cache)

    @torch.no_grad()
    @one_thread_at_a_time
    def rank(
        self,
        answers: Sequence[Sequence[int]],
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        features: Features | None = None,
        pixel_values: Pixels | None = None,
        inputs: RawInputs | None = None,
        top_k: int | None = None,
        pairs: int = 32,
    ) -> Ranked:
        """The likeliest of a closed set of answers after every row of text.

        Perception and text are computed once a row; see `epalm.models.ranking`.

        Args:
            answers: tokens of each, with the end token; at least one, and none of them empty.
            input_ids: (B, T), padded on either side.
            attention_mask: (B, T), 1 for real tokens; unset: all are.
            features: see `forward`.
            pixel_values: see `encode`.
            inputs: see `encode`.
            top_k: try no more than the k answers with the likeliest first tokens; unset: as many as it takes to be sure
                of the best.
            pairs: pairs of a row and an answer that are computed at once.

        Raises:
            ConfigError: `top_k` or `pairs` is out of range.
            DataError: see `generate`; an answer is no tokens; or the language model has no positions for a row and the
                longest answer.
        """
        tokens = answers_of(answers, self.anatomy.vocabulary)
        for name, number in (("top_k", 1 if top_k is None else top_k), ("pairs", pairs)):
            if not isinstance(number, int) or number < 1:
                raise ConfigError(f"rank: {name}: expected a whole number, at least 1, got {number!r}")
        vectors = self.perception(features, pixel_values, inputs, must_be_finite=True)
        ids, mask = to_left_padding(*self._placed(*self._text(input_ids, attention_mask)))
        limit, longest = self.anatomy.position_limit, max(map(len, tokens))
        if limit is not None and (before := int(self._counted(mask, vectors).sum(1).max())) + longest - 1 > limit:
            raise DataError(
                f"answers: {longest} tokens in the longest are too many after {before} of text; the language model has "
                f"positions for {limit}"
            )
        layout = self._lay_out(ids, mask, vectors)
        after = AnswersAfter(
            self.language_model,
            self.anatomy,
            layout,
            tokens,
            lambda rows: self._running(layout.of_rows(rows), {name: each[rows] for name, each in vectors.items()}),
            cached=not vectors or self.config.mask != "legacy",
        )
        return search(after.first(), tokens, after.rest, top_k, pairs)

    @property
    def special_tokens(self) -> SpecialTokens:
        """What a text begins and ends with, as generation has it."""
        return SpecialTokens.of(self.language_model, self.tokenizer)

    def _beginning(self, vectors: Mapping[str, Tensor]) -> Tensor:
        """(B, 1): what generation starts from without any text."""
        begin = self.special_tokens.begin
        if begin is None:
            raise ConfigError("generate: the language model has no token to begin with; give input_ids")
        return torch.full((len(next(iter(vectors.values()))) if vectors else 1, 1), begin)
