"""The augmented language model: frozen causal LM, frozen encoders, and the little that is trained (eP-ALM, ICCV 2023).

Its parts are in `epalm.models.augmented_parts`, generation and ranking in `epalm.models.augmented_generation`; here is
one pass, with the loss where there are labels.

Shapes: B batch, T text tokens, P soft-prompt tokens, S slots, K levels, E encoder width, V vocabulary.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from typing import Any

from torch import Tensor
from transformers.modeling_outputs import CausalLMOutputWithPast

from epalm.errors import ConfigError
from epalm.models.augmented_generation import AugmentedGeneration
from epalm.models.call_arguments import labels_of
from epalm.models.layer_forwards import compiled, require_compiler
from epalm.models.loss import LabelledRows, LossScale, ends_in_its_head, loss_of, predicting, require_loss
from epalm.models.lower_layers import LowerLayers
from epalm.models.perception import Features, Pixels, RawInputs
from epalm.models.sharding import is_sharded
from epalm.runtime.locks import one_thread_at_a_time


class AugmentedLM(AugmentedGeneration):
    """A frozen language model that perceives: what runs of `PerceptualLM`, which adds making and keeping one.

    Only the connectors, the soft prompt and the block adapters are trained: what is trainable follows from which
    module owns it. They are float32 whatever the backbones are; their results are cast where they enter the language
    model. The backbones are frozen and stay in evaluation mode whatever mode the rest is in.
    """

    @one_thread_at_a_time
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        features: Features | None = None,
        pixel_values: Pixels | None = None,
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
            features: ready features, (B, K, E) or every token (see `reads_tokens`), or by modality.
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
            ConfigError: there is no such loss.
            DataError: something is not a tensor of the right kind or shape, or there are labels but none that counts.
        """
        text, real = self._text(input_ids, attention_mask)  # where they came: to read them off a GPU is to wait for it
        vectors = self.perception(features, pixel_values, inputs)
        rows = None
        if labels is not None:
            labels = labels_of(labels, text, self.anatomy.vocabulary)
            require_loss(loss_scale, label_smoothing)
            rows = LabelledRows.find(labels.to(real.device), real, self._in_front(vectors))
            if self.config.mask != "legacy":  # whose slots see what comes last, too
                text, real = predicting(text, real)
            skip_logits = skip_logits and self._ends_in_its_head
        ids, mask = self._placed(text, real)
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
            lower = lower_layers.standing_in(lower_layers.states(text, real), len(vectors))
        with lower, running:
            if rows is None:
                return CausalLMOutputWithPast(logits=self.language_model(**arguments).logits)
            run = partial(self.language_model, **arguments)
            head = self.language_model.get_output_embeddings()
            loss, logits = loss_of(run, head, rows, len(ids), loss_scale, label_smoothing, skip_logits=skip_logits)
            return CausalLMOutputWithPast(loss=loss, logits=logits)

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
            f"{self.config.mechanism} is seen below a window, too": self.config.mechanism != "slot",
            "the layers are sharded over processes (model.shard)": is_sharded(self.language_model),
        }
        for reason, holds in reasons.items():
            if holds:
                raise ConfigError(f"training.cache_lower_layers: {reason}; leave it out, or change the adapter")
        return LowerLayers(self.language_model, self.anatomy, self.window.start, most_bytes)

    @cached_property
    def _ends_in_its_head(self) -> bool:
        return ends_in_its_head(self.language_model)
