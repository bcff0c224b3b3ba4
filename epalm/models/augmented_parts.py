"""What an augmented language model is made of, and how its parts are put around the frozen decoder for one call.

    raw inputs -> encoder (B, K, E) -> connector (B, K, D) -> slot, filled anew in every layer of the window
    soft prompt (P, W) -> in front of the text -> the unmodified Hugging Face decoder

One slot per modality, in the alphabetical order of the modalities that a call brings. Positions: see
`epalm.models.layout`; masks: see `epalm.models.injection`.

Shapes: B batch, T text tokens, P soft-prompt tokens, S slots, K levels, E encoder width, D and W language-model widths.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from epalm.encoders import PerceptualEncoder
from epalm.errors import DataError
from epalm.models.anatomy import Anatomy
from epalm.models.block_adapters import BlockAdapters
from epalm.models.call_arguments import text_of
from epalm.models.cards import EncoderCard
from epalm.models.injection import injected
from epalm.models.layout import Layout, lay_out
from epalm.models.partly_trained import PartlyTrained
from epalm.models.perception import Perception, Pixels, RawInputs
from epalm.models.prompts import MlpPrompt, PlainPrompt, build_prompt
from epalm.models.window import Window
from epalm.runtime.offloading import execution_device
from epalm.runtime.torch_defaults import torch_defaults
from epalm.settings import AdapterConfig


class AugmentedParts(PartlyTrained):
    """Base of `AugmentedLM`: its parts, without what they do.

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

    tokenizer: Any = None
    """The language model's, where there is one; nothing is read of it here but its end token."""

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
        device = execution_device(words)
        # Made on the CPU, so that a seed gives the same start on every device, and whatever a caller has set for torch.
        with torch_defaults(), torch.device("meta" if device.type == "meta" else "cpu"):
            shared = config.connector == "shared"
            self.perception = Perception(
                encoders,
                widths,
                depths,
                levels,
                used={name: self.window.used(count) for name, count in levels.items()},
                width=anatomy.width,
                shared=shared,
                feature_cards=feature_cards,
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
        return execution_device(self.language_model.get_input_embeddings())

    def encode(self, *, pixel_values: Pixels | None = None, inputs: RawInputs | None = None) -> dict[str, Tensor]:
        """Perceptual features of raw inputs, (B, K, E) by modality, as `forward` and `generate` take them.

        Args:
            pixel_values: what the image encoder takes, short for `inputs={"image": {"pixel_values": ...}}`; or such
                tensors by modality; or all that an image processor gives.
            inputs: encoder inputs by name, by modality.

        Raises:
            DataError: a modality comes twice, or has no encoder here, or its inputs are no tensors that it can take.
        """
        return self.perception.encode(pixel_values, inputs)

    # -- put together ----------------------------------------------------------------------------------------------

    @property
    def _prompt_tokens(self) -> int:
        return 0 if self.prompt is None else self.config.prompt_tokens

    def _text(self, ids: Any, mask: Any) -> tuple[Tensor, Tensor]:
        """Token ids and mask, (B, T) each, where they came."""
        ids, mask = text_of(ids, mask, self.language_model.get_input_embeddings().weight.shape[0])
        limit = self.anatomy.position_limit
        if limit is not None and ids.shape[1] > limit and (longest := int(mask.sum(1).max())) > limit:
            raise DataError(f"input_ids: {longest} tokens, but the language model has positions for {limit}")
        return ids, mask

    def _placed(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids and mask where the language model takes them."""
        return ids.to(self.device, non_blocking=True), mask.to(self.device, non_blocking=True)

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

    def _blocks_adapted(self) -> AbstractContextManager[None]:
        return nullcontext() if self.block_adapters is None else self.block_adapters.attached()
