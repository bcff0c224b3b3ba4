"""The augmented language model: frozen causal LM, frozen encoders, and the little that is trained (eP-ALM, ICCV 2023).

    raw inputs -> encoder (B, K, E) -> connector (B, K, D) -> slot, filled anew in every layer of the window
    soft prompt (P, W) -> in front of the text -> the unmodified Hugging Face decoder -> logits

One slot per modality, in the alphabetical order of the modalities that a call brings. Positions: see
`epalm.models.layout`; masks: see `epalm.models.injection`.

Shapes: B batch, T text tokens, P soft-prompt tokens, S slots, K levels, E encoder width, D and W language-model widths,
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from epalm.encoders import PerceptualEncoder
from epalm.errors import ConfigError, DataError
from epalm.models.anatomy import Anatomy
from epalm.models.block_adapters import BlockAdapters
from epalm.models.cards import EncoderCard
from epalm.models.generation import (
    generate_after,
    generation_arguments,
    streaming_without_front,
    without_front,
)
from epalm.models.injection import injected
from epalm.models.layer_forwards import compiled, require_compiler
from epalm.models.layout import Layout, lay_out, to_left_padding
from epalm.models.loss import LabelledRows, LossScale, ends_in_its_head, loss_of, predicting
from epalm.models.lower_layers import LowerLayers
from epalm.models.partly_trained import PartlyTrained
from epalm.models.perception import Features, Perception, RawInputs
from epalm.models.prompts import MlpPrompt, PlainPrompt, build_prompt
from epalm.models.ranking import AnswersAfter, Ranked, search
from epalm.models.sharding import is_sharded
from epalm.models.window import Window
from epalm.settings import AdapterConfig


class AugmentedLM(PartlyTrained):
    """A frozen language model that perceives: what runs of `PerceptualLM`, which adds making and keeping one.

    Only the connectors, the soft prompt and the block adapters are trained: what is trainable follows from which
    module owns it. They are float32 whatever the backbones are; their results are cast where they enter the language
    model. The backbones are frozen and stay in evaluation mode whatever mode the rest is in.

    Args:
        language_model: the causal language model; it gets frozen.
        anatomy: its parts.
        encoders: see `Perception`; they get frozen.
        widths: see `Perception`.
        depths: see `Perception`.
        config: the settings.
        feature_cards: see `Perception`.

    Raises:
        ConfigError: the settings do not fit the backbones.
        UnsupportedModelError: the block adapters do not fit the language model.
    """

    def __init__(
        self,
        language_model: PreTrainedModel,
        anatomy: Anatomy,
        encoders: Mapping[str, PerceptualEncoder],
        widths: Mapping[str, int],
        depths: Mapping[str, int | None],
        config: AdapterConfig,
        feature_cards: Mapping[str, EncoderCard] | None = None,
    ) -> None:
        super().__init__()
        self.language_model, self.anatomy = language_model, anatomy
        self.window = Window.resolve(config, len(anatomy.layers))
        levels = self.window.levels(config, depths)
        written_out: dict[str, Any] = {"start": self.window.start, "end": self.window.end}
        if len(set(levels.values())) == 1:
            written_out["levels"] = next(iter(levels.values()))
        self.config = config.model_copy(update=written_out)
        """The settings, with the window and the levels written out."""

        words = language_model.get_input_embeddings()
        device = words.weight.device
        # Made on the CPU, so that a seed gives the same start on every device.
        with torch.device("meta" if device.type == "meta" else "cpu"):
            shared = config.connector == "shared"
            self.perception = Perception(
                encoders, widths, depths, levels, width=anatomy.width, shared=shared, feature_cards=feature_cards
            )
            self.prompt: PlainPrompt | MlpPrompt | None = None
            if config.prompt != "none":
                self.prompt = build_prompt(config.prompt, config.prompt_tokens, words)
            self.block_adapters: BlockAdapters | None = None
            if config.block_adapters != "none":
                self.block_adapters = BlockAdapters(anatomy, config.block_adapters, config.bottleneck)
        for part in self.trained_parts().values():
            part.to(device)
        self.freeze()

    # -- its parts -------------------------------------------------------------------------------------------------

    def trained_parts(self) -> dict[str, nn.Module]:
        """Of `connector`, `prompt` and `block_adapters` those there are."""
        parts = {"connector": self.perception.connector, "prompt": self.prompt, "block_adapters": self.block_adapters}
        return {name: part for name, part in parts.items() if part is not None and any(True for _ in part.parameters())}

    def frozen_parts(self) -> dict[str, nn.Module]:
        """The language model and the encoders."""
        return {"language model": self.language_model} | {
            f"{name} encoder": part for name, part in self.encoders.items()
        }

    def fold_prompt(self) -> None:
        """Turn an `mlp` prompt into the P x W vectors it computes; nothing that is generated changes."""
        if isinstance(self.prompt, MlpPrompt):
            self.prompt = self.prompt.fold()
            self.config = self.config.model_copy(update={"prompt": "plain"})

    @property
    def encoders(self) -> Mapping[str, PerceptualEncoder]:
        """The frozen encoders, by modality."""
        return self.perception.encoders

    @property
    def levels(self) -> Mapping[str, int]:
        """K, by modality."""
        return self.perception.levels

    @property
    def device(self) -> torch.device:
        """Where the language model takes its inputs."""
        return _device_of(self.language_model)

    # -- using it --------------------------------------------------------------------------------------------------

    def encode(self, *, pixel_values: Tensor | None = None, inputs: RawInputs | None = None) -> dict[str, Tensor]:
        """Perceptual features of raw inputs, (B, K, E) by modality, as `forward` and `generate` take them.

        Args:
            pixel_values: what the image encoder takes; short for `inputs={"image": {"pixel_values": ...}}`.
            inputs: encoder inputs by name, by modality.

        Raises:
            DataError: a modality comes twice, or has no encoder here.
        """
        return self.perception.encode(pixel_values, inputs)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        features: Features | None = None,
        pixel_values: Tensor | None = None,
        inputs: RawInputs | None = None,
        loss_scale: LossScale = "mean",
        label_smoothing: float = 0.0,
        lower_layers: LowerLayers | None = None,
        skip_logits: bool = False,
    ) -> CausalLMOutputWithPast:
        """One pass. Without perception and without a soft prompt it is the plain language model's, to the bit.

        Args:
            input_ids: (B, T), padded on either side.
            attention_mask: (B, T), 1 for real tokens; unset: all are.
            labels: (B, T), aligned with `input_ids`, -100 where there is none; shifted inside. The first token of a
                row is never a target: put BOS, or the question, in front of what is to be learned.
            features: ready features, (B, K, E), or by modality.
            pixel_values: see `encode`.
            inputs: see `encode`.
            loss_scale: `mean` over the labels, or `original`: 0.1 times their sum over B.
            label_smoothing: of the loss.
            lower_layers: made by `lower_layers`: the layers below the window are run for new texts alone.
            skip_logits: with labels the loss is all that is wanted: most language models then do with the memory of a
                few rows of logits.

        Returns:
            Without labels `logits` (B, S + P + T, V), slots first, in left-padded rows the soft prompt behind the
            padding. With labels `loss`, and `logits` (N, V) at the labelled positions alone, row by row, unless they
            may be skipped.

        Raises:
            DataError: shapes do not fit, or there are labels but none that counts.
        """
        ids, mask = self._text(input_ids, attention_mask)
        vectors = self.perception(features, pixel_values, inputs)
        rows = None
        if labels is not None:
            if labels.shape != ids.shape:
                raise DataError(f"labels: expected {tuple(ids.shape)} like input_ids, got {tuple(labels.shape)}")
            # Where the mask was given: a search on a GPU would wait for all it has to do.
            as_given = mask if attention_mask is None else attention_mask
            rows = LabelledRows.find(labels.to(as_given.device), as_given, len(vectors) + self._prompt_tokens)
            if self.config.mask != "legacy":  # whose slots see what comes last, too
                ids, mask = predicting(ids, mask)
                if attention_mask is not None:
                    attention_mask = predicting(input_ids, attention_mask)[1]
                input_ids = input_ids[:, :-1]
            skip_logits = skip_logits and self._ends_in_its_head
        if not vectors and self.prompt is None:
            arguments: dict[str, Any] = {"input_ids": ids, "attention_mask": None if attention_mask is None else mask}
            running = self._blocks_adapted()
        else:
            layout = self._lay_out(ids, mask, vectors)
            arguments = {"inputs_embeds": layout.embeddings, "attention_mask": layout.mask, "use_cache": False}
            if self.anatomy.takes_position_ids:
                arguments["position_ids"] = layout.positions
            running = self._running(layout, vectors)
        lower: AbstractContextManager[None] = nullcontext()
        if lower_layers is not None and vectors:
            # By the texts as they came: to read them off a GPU would be to wait for it.
            as_given = mask if attention_mask is None else attention_mask
            lower = lower_layers.standing_in(lower_layers.states(input_ids, as_given), len(vectors))
        with lower, running:
            if rows is None:
                return CausalLMOutputWithPast(logits=self.language_model(**arguments).logits)
            run = partial(self.language_model, **arguments)
            head = self.language_model.get_output_embeddings()
            loss, logits = loss_of(run, head, rows, len(ids), loss_scale, label_smoothing, skip_logits=skip_logits)
            return CausalLMOutputWithPast(loss=loss, logits=logits)

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        features: Features | None = None,
        pixel_values: Tensor | None = None,
        inputs: RawInputs | None = None,
        keep_padding: bool = False,
        **generate_kwargs: Any,
    ) -> Any:
        """Continue the text: transformers' `generate`, with its arguments.

        Perception is computed once and enters at prefill; the KV cache serves the rest. All lengths, `max_length`
        too, count new tokens (default: `max_new_tokens` of the language model's own settings, else 20), and end where
        a learned table of positions does. Right padding is turned into left padding first.

        Args:
            input_ids: (B, T); unset: the language model's BOS token, else its EOS token.
            attention_mask: (B, T), 1 for real tokens; unset: all are.
            features: see `forward`.
            pixel_values: see `encode`.
            inputs: see `encode`.
            keep_padding: leave right padding where it is and generate behind it, without a cache, as the original did.
            generate_kwargs: greedy, sampling, beams, `num_return_sequences`, ... as transformers has them.

        Returns:
            New tokens only, (B * num_return_sequences, R), or what `return_dict_in_generate` asks for.

        Raises:
            DataError: shapes do not fit, or perception is not of finite numbers.
            ConfigError: an argument cannot be combined with perception.
        """
        vectors = self.perception(features, pixel_values, inputs, must_be_finite=True)
        if input_ids is None:
            input_ids, attention_mask = self._beginning(vectors), None
        ids, mask = self._text(input_ids, attention_mask)
        if not keep_padding:
            ids, mask = to_left_padding(ids, mask)
        kwargs = generation_arguments(self.language_model, self.anatomy, mask, generate_kwargs)
        if not vectors and self.prompt is None:
            with self._blocks_adapted(), streaming_without_front(kwargs):
                output = self.language_model.generate(input_ids=ids, attention_mask=mask, **kwargs)
            return without_front(output, ids.shape[1])
        # A cache would count positions on from the padding's, or keep a slot that changes.
        if keep_padding or (vectors and self.config.mask == "legacy"):
            kwargs["use_cache"] = False
        layout = self._lay_out(ids, mask, vectors)
        with self._running(layout, vectors):
            return generate_after(self.language_model, self.anatomy, layout, kwargs)

    def compiled_layers(self, **options: Any) -> AbstractContextManager[None]:
        """Inside this context training runs each decoder layer's own code compiled, once for all of them.

        Hooks, and with them perception, stay outside, so every step has the same code; the first takes half a minute.
        Passes without gradients, generation among them, are as they always are.

        Args:
            options: `torch.compile`'s; unset: its defaults.

        Raises:
            ConfigError: there is no compiler, or the block adapters, which work inside the layers, forbid it.
        """
        if self.block_adapters is not None:
            raise ConfigError("training.compile: block adapters work inside the layers that it compiles; leave it out")
        if options.get("backend", "inductor") == "inductor":
            require_compiler(self.device)
        return compiled(self.anatomy.layers, **options)

    def lower_layers(self, most_bytes: int | None = None) -> LowerLayers:
        """What makes `forward` run the layers below the window once for every text, with the same results.

        Args:
            most_bytes: of main memory that may be kept, by default 4 GiB: a token takes the model's width in its dtype.

        Raises:
            ConfigError: what is below the window depends on more than the text, or nothing is there.
        """
        reasons = {
            "a soft prompt is trained below the window, too": self.prompt is not None,
            "block adapters are trained below the window, too": self.block_adapters is not None,
            "with the legacy mask the slot sees the padding": self.config.mask == "legacy",
            "the window begins with the first layer": self.window.start == 0,
            "the layers are shared out among processes (model.shard)": is_sharded(self.language_model),
        }
        for reason, holds in reasons.items():
            if holds:
                raise ConfigError(f"training.cache_lower_layers: {reason}; leave it out, or change the adapter")
        return LowerLayers(self.language_model, self.anatomy, self.window.start, most_bytes)

    @torch.no_grad()
    def rank(
        self,
        answers: Sequence[Sequence[int]],
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        features: Features | None = None,
        pixel_values: Tensor | None = None,
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
            DataError: see `generate`; or the language model has no positions for a row and the longest answer.
        """
        if not answers or not all(answers):
            raise DataError("answers: expected at least one, and tokens in each of them")
        vectors = self.perception(features, pixel_values, inputs, must_be_finite=True)
        ids, mask = to_left_padding(*self._text(input_ids, attention_mask))
        limit, longest = self.anatomy.position_limit, max(map(len, answers))
        if limit is not None and int(mask.sum(1).max()) + longest - 1 > limit:
            raise DataError(
                f"answers: {longest} tokens in the longest are too many after {int(mask.sum(1).max())} of text; the "
                f"language model has positions for {limit}"
            )
        layout = self._lay_out(ids, mask, vectors)
        after = AnswersAfter(
            self.language_model,
            self.anatomy,
            layout,
            answers,
            lambda rows: self._running(layout.of_rows(rows), {name: vector[rows] for name, vector in vectors.items()}),
            cached=not vectors or self.config.mask != "legacy",
        )
        return search(after.first(), answers, after.rest, top_k, pairs)

    # -- inside ----------------------------------------------------------------------------------------------------

    @property
    def _prompt_tokens(self) -> int:
        return 0 if self.prompt is None else self.config.prompt_tokens

    @cached_property
    def _ends_in_its_head(self) -> bool:
        return ends_in_its_head(self.language_model)

    def _text(self, ids: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Token ids and mask, (B, T) each, where the language model takes them."""
        if ids.ndim != 2 or not ids.shape[1] or (mask is not None and mask.shape != ids.shape):
            shapes = f"{tuple(ids.shape)} and {None if mask is None else tuple(mask.shape)}"
            raise DataError(f"input_ids and attention_mask: expected (B, T) for both, with T at least 1, got {shapes}")
        mask = torch.ones_like(ids) if mask is None else mask
        limit = self.anatomy.position_limit
        if limit is not None and ids.shape[1] > limit and (longest := int(mask.sum(1).max())) > limit:
            raise DataError(f"input_ids: {longest} tokens, but the language model has positions for {limit}")
        return ids.to(self.device, non_blocking=True), mask.to(self.device, non_blocking=True)

    def _beginning(self, vectors: Mapping[str, Tensor]) -> Tensor:
        """(B, 1): what generation starts from without any text."""
        defaults = self.language_model.generation_config
        for token in (defaults.bos_token_id, defaults.eos_token_id):
            if token is not None:
                batch = len(next(iter(vectors.values()))) if vectors else 1
                return torch.full((batch, 1), token[0] if isinstance(token, list) else token)
        raise ConfigError("generate: the language model has no token to begin with; give input_ids")

    def _lay_out(self, ids: Tensor, mask: Tensor, vectors: Mapping[str, Tensor]) -> Layout:
        """Slots, soft prompt and text in their places."""
        for name, tensor in vectors.items():
            if len(tensor) != len(ids):
                raise DataError(f"{name}: perception of {len(tensor)} inputs for {len(ids)} rows of text")
        text = self.language_model.get_input_embeddings()(ids)  # (B, T, W)
        prompt = None if self.prompt is None else self.prompt()  # (P, W)
        return lay_out(self.anatomy, text, mask, prompt, len(vectors))

    @contextmanager
    def _running(self, layout: Layout, vectors: Mapping[str, Tensor]) -> Iterator[None]:
        """Inside this context the language model has its block adapters, and its slots what they perceive."""
        plans = {name: self.window.schedule(self.levels[name]) for name in vectors}
        layers = range(self.window.end - self.window.start) if vectors else ()
        states = [
            torch.stack([vectors[name][:, plan[offset]] for name, plan in plans.items()], dim=1) for offset in layers
        ]  # (B, S, D) for each layer of the window
        legacy = self.config.mask == "legacy"
        silent = layout.silent
        with (
            self._blocks_adapted(),
            injected(self.language_model, self.anatomy, self.window.start, states, silent=silent, legacy=legacy),
        ):
            yield

    def _blocks_adapted(self) -> Any:
        return nullcontext() if self.block_adapters is None else self.block_adapters.attached()


def _device_of(model: Any) -> torch.device:
    return model.get_input_embeddings().weight.device
