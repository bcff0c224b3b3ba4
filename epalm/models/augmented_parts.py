"""What an augmented language model is made of, and how its parts are put around the frozen decoder for one call.

    raw inputs -> encoder (B, K, E) -> mechanism -> tokens in front of the text, and what happens in the layers
    soft prompt (P, W) -> in front of the text -> the unmodified Hugging Face decoder

Mechanisms: see `epalm.models.mechanisms`; positions: see `epalm.models.layout`; masks: see `epalm.models.injection`.

Shapes: B batch, T text tokens, P soft-prompt tokens, S slots, M perceived tokens, K levels, E encoder width, W
word-embedding width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from epalm.encoders import PerceptualEncoder, TokenFeatures
from epalm.errors import DataError
from epalm.models.anatomy import Anatomy
from epalm.models.block_adapters import BlockAdapters
from epalm.models.call_arguments import text_of
from epalm.models.cards import EncoderCard
from epalm.models.layout import Layout, lay_out
from epalm.models.mechanisms import Perceived, mechanism_named
from epalm.models.partly_trained import PartlyTrained
from epalm.models.perception import Perception, Pixels, RawInputs, shape_of
from epalm.models.prompts import MlpPrompt, PlainPrompt, build_prompt
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
        kind = mechanism_named(config.mechanism)
        self.window = kind.window_of(config, len(anatomy.layers))
        levels = kind.levels_of(config, self.window, depths)
        written_out: dict[str, Any] = {}
        if kind.has_window:
            written_out = {"start": self.window.start, "end": self.window.end}
        if len(set(levels.values())) == 1:
            written_out["levels"] = next(iter(levels.values()))
        self.config = config.model_copy(update=written_out)
        """The settings, with the window and the levels written out."""

        words = language_model.get_input_embeddings()
        device = execution_device(words)
        # Made on the CPU, so that a seed gives the same start on every device, and whatever a caller has set for torch.
        with torch_defaults(), torch.device("meta" if device.type == "meta" else "cpu"):
            cards = feature_cards or {}
            shapes = {
                name: shape_of(encoders.get(name), cards.get(name), width, levels[name])
                for name, width in widths.items()
            }
            mechanism = kind(self.config, anatomy, self.window, shapes).float()
            self.perception = Perception(encoders, depths, mechanism, feature_cards)
            self.prompt: PlainPrompt | MlpPrompt | None = None
            if config.prompt != "none":
                self.prompt = build_prompt(config.prompt, config.prompt_tokens, words)
            self.block_adapters: BlockAdapters | None = None
            if config.block_adapters != "none":
                self.block_adapters = BlockAdapters(anatomy, config.block_adapters, config.bottleneck)
        for part in (self.perception.mechanism, *self.trained_parts().values()):
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
    def reads_tokens(self) -> bool:
        """Whether features are of every token, (B, K, N, E), and not (B, K, E)."""
        return self.perception.reads_tokens

    @property
    def text_limit(self) -> int | None:
        """The most tokens of text that the language model has positions for; None where it counts without a table."""
        limit = self.anatomy.position_limit
        return None if limit is None else max(0, limit - self.perception.mechanism.most_positions)

    @property
    def device(self) -> torch.device:
        """Where the language model takes its inputs."""
        return execution_device(self.language_model.get_input_embeddings())

    def encode(
        self, *, pixel_values: Pixels | None = None, inputs: RawInputs | None = None
    ) -> dict[str, Tensor | TokenFeatures]:
        """Perceptual features of raw inputs, (B, K, E) or every token, by modality, as `forward` and `generate` take
        them.

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

    def _in_front(self, perceived: Perceived) -> int:
        """How many positions there are in front of the text, padding included."""
        mechanism = self.perception.mechanism
        front = mechanism.front(perceived)
        return mechanism.slots(perceived) + (0 if front is None else front.mask.shape[1]) + self._prompt_tokens

    def _counted(self, mask: Tensor, perceived: Perceived) -> Tensor:
        """The mask of the text, (B, T), with that of perceived tokens, which take positions as it does."""
        front = self.perception.mechanism.front(perceived)
        return mask if front is None else torch.cat([front.mask.to(mask), mask], dim=1)

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

    def _lay_out(self, ids: Tensor, mask: Tensor, perceived: Perceived) -> Layout:
        """Slots, perceived tokens, soft prompt and text in their places."""
        for name, tensor in perceived.items():
            if len(tensor) != len(ids):
                raise DataError(f"{name}: perception of {len(tensor)} inputs for {len(ids)} rows of text")
        text = self.language_model.get_input_embeddings()(ids)  # (B, T, W)
        prompt = None if self.prompt is None else self.prompt()  # (P, W)
        mechanism = self.perception.mechanism
        front = mechanism.front(perceived)
        limit = self.anatomy.position_limit
        if front is not None and limit is not None:
            longest = int((front.mask.sum(1).to(mask.device) + mask.sum(1)).max())
            if longest > limit:
                raise DataError(
                    f"input_ids: {longest} tokens with what is perceived, but the language model has positions for "
                    f"{limit}"
                )
        return lay_out(self.anatomy, text, mask, prompt, mechanism.slots(perceived), front)

    @contextmanager
    def _running(self, layout: Layout, perceived: Perceived) -> Iterator[None]:
        """Inside this context the language model has its block adapters, and perceives."""
        with (
            self._blocks_adapted(),
            self.perception.mechanism.entered(self.language_model, layout, perceived),
        ):
            yield

    def _blocks_adapted(self) -> AbstractContextManager[None]:
        return nullcontext() if self.block_adapters is None else self.block_adapters.attached()
