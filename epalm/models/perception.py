"""What a model perceives by: for every modality a frozen encoder, if it has one, and a trained connector.

    raw inputs -> encoder (B, K, E) -> connector (B, K, D)

Shapes: B batch, K levels, E encoder width, D language-model width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from epalm.encoders import PerceptualEncoder
from epalm.errors import DataError, is_out_of_memory
from epalm.models.call_arguments import features_of, raw_inputs_of, require_shapes
from epalm.models.cards import EncoderCard
from epalm.models.connectors import LinearConnector

Features = Tensor | Mapping[str, Tensor]
"""(B, K, E) where there is one modality, or by modality."""
Pixels = Tensor | Mapping[str, Any]
"""What the image encoder takes, or by modality, or what an image processor gives."""
RawInputs = Mapping[str, Mapping[str, Tensor]]
"""What encoders take, by name, by modality."""
DEFAULT_MODALITY = "image"


class Perception(nn.Module):
    """Encoders and connectors by modality, in alphabetical order.

    Args:
        encoders: by modality. A modality without one takes ready features only.
        widths: E, by modality.
        depths: how many levels each encoder has, by modality; None where unknown.
        levels: K, by modality.
        used: how many levels of each, the shallowest, reach the language model.
        width: D.
        shared: one linear for all levels of a modality, or one for each that is used.
        feature_cards: what is known of ready features, by modality.
    """

    def __init__(
        self,
        encoders: Mapping[str, PerceptualEncoder],
        widths: Mapping[str, int],
        depths: Mapping[str, int | None],
        levels: Mapping[str, int],
        *,
        used: Mapping[str, int],
        width: int,
        shared: bool,
        feature_cards: Mapping[str, EncoderCard] | None = None,
    ) -> None:
        super().__init__()
        self.encoders: Any = nn.ModuleDict(dict(encoders))
        self.feature_cards = dict(feature_cards or {})
        self.widths, self.depths, self.levels = dict(sorted(widths.items())), dict(depths), dict(levels)
        self.connector = nn.ModuleDict(
            {
                name: LinearConnector(encoder_width, width, levels=used[name], shared=shared)
                for name, encoder_width in self.widths.items()
            }
        )

    @torch.no_grad()
    def encode(self, pixel_values: Pixels | None = None, inputs: RawInputs | None = None) -> dict[str, Tensor]:
        """Perceptual features of raw inputs, (B, K, E) by modality.

        Args:
            pixel_values: what the image encoder takes, or such tensors by modality, or what an image processor gives.
            inputs: encoder inputs by name, by modality.

        Raises:
            DataError: a modality comes twice, or has no encoder here, or its inputs are no tensors that it can take.
        """
        given = raw_inputs_of(pixel_values, inputs, self.encoders, DEFAULT_MODALITY)
        return {name: self._features(name, values) for name, values in given.items()}

    def forward(
        self,
        features: Features | None = None,
        pixel_values: Pixels | None = None,
        inputs: RawInputs | None = None,
        *,
        must_be_finite: bool = False,
    ) -> dict[str, Tensor]:
        """What enters the slots: (B, K, D) by modality, in the order of the slots.

        Levels that reach no layer are left out where each has a linear of its own. Without any modality this is always
        empty: the blind floor may be given what the others are given.

        Args:
            features: (B, K, E), where there is one modality, or by modality.
            pixel_values: see `encode`.
            inputs: see `encode`.
            must_be_finite: look at every number, for which a GPU must finish all it has to do. In training the loss
                tells of it, later.

        Raises:
            DataError: a modality is unknown or given twice, or features have another shape than (B, K, E), or must be
                finite numbers and are not.
        """
        if not self.widths:
            return {}
        given = self.encode(pixel_values, inputs)
        for name, tensor in features_of(features, tuple(self.widths)).items():
            if name in given:
                raise DataError(f"{name} is given twice: raw and as features")
            if name not in self.widths:
                raise DataError(f"features of modality '{name}' have no connector; there are {', '.join(self.widths)}")
            given[name] = tensor
        for name, tensor in given.items():
            levels, width = self.levels[name], self.widths[name]
            if tensor.ndim != 3 or tensor.shape[1:] != (levels, width):
                raise DataError(f"{name} features: expected (B, {levels}, {width}), got {tuple(tensor.shape)}")
            if must_be_finite and not (finite := tensor.isfinite().flatten(1).all(dim=1)).all():  # (B,)
                row = int(finite.int().argmin())
                raise DataError(
                    f"{name} features: row {row} of {len(tensor)} (from 0) holds NaN or infinity; mend it, or leave it "
                    "out"
                )
        return {name: self.connector[name](given[name]) for name in self.widths if name in given}

    def cards(self) -> dict[str, EncoderCard]:
        """What an adapter says of each encoder."""
        cards = {}
        for name, width in self.widths.items():
            used = self.levels[name]
            if name in self.encoders:
                cards[name] = EncoderCard.of(self.encoders[name], used)
            elif name in self.feature_cards:
                cards[name] = self.feature_cards[name].model_copy(update={"used_levels": used})
            else:
                cards[name] = EncoderCard.of_ready_features(width, self.depths[name], used)
        return cards

    def _features(self, modality: str, inputs: Mapping[str, Tensor]) -> Tensor:
        """(B, K, E)."""
        encoder: PerceptualEncoder = self.encoders[modality]
        try:
            return encoder.features(inputs, self.levels[modality])
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            if not is_out_of_memory(error):
                require_shapes(modality, encoder, inputs)
            raise
