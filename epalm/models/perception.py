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
from epalm.errors import DataError
from epalm.models.cards import EncoderCard
from epalm.models.connectors import LinearConnector

Features = Tensor | Mapping[str, Tensor]
"""(B, K, E) where there is one modality, or by modality."""
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
        width: D.
        shared: one linear for all levels of a modality, or one for each.
        feature_cards: what is known of ready features, by modality.
    """

    def __init__(
        self,
        encoders: Mapping[str, PerceptualEncoder],
        widths: Mapping[str, int],
        depths: Mapping[str, int | None],
        levels: Mapping[str, int],
        *,
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
                name: LinearConnector(encoder_width, width, levels=self.levels[name], shared=shared)
                for name, encoder_width in self.widths.items()
            }
        )

    @torch.no_grad()
    def encode(self, pixel_values: Tensor | None = None, inputs: RawInputs | None = None) -> dict[str, Tensor]:
        """Perceptual features of raw inputs, (B, K, E) by modality.

        Args:
            pixel_values: what the image encoder takes; short for `inputs={"image": {"pixel_values": ...}}`.
            inputs: encoder inputs by name, by modality.

        Raises:
            DataError: a modality comes twice, or has no encoder here.
        """
        given = dict(inputs or {})
        if pixel_values is not None:
            if DEFAULT_MODALITY in given:
                raise DataError(f"{DEFAULT_MODALITY} is given twice: as pixel_values and in inputs")
            given[DEFAULT_MODALITY] = {"pixel_values": pixel_values}
        for name in given:
            if name not in self.encoders:
                raise DataError(f"there is no {name} encoder here; there are {', '.join(self.encoders) or 'none'}")
        return {name: self.encoders[name].features(values, self.levels[name]) for name, values in given.items()}

    def forward(
        self,
        features: Features | None = None,
        pixel_values: Tensor | None = None,
        inputs: RawInputs | None = None,
        *,
        must_be_finite: bool = False,
    ) -> dict[str, Tensor]:
        """What enters the slots: (B, K, D) by modality, in the order of the slots.

        Without any modality this is always empty: the blind floor may be given what the others are given.

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
        for name, tensor in self._by_modality(features).items():
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

    def _by_modality(self, features: Features | None) -> Mapping[str, Tensor]:
        if features is None or isinstance(features, Mapping):
            return features or {}
        if len(self.widths) > 1:
            modalities = ", ".join(self.widths)
            raise DataError(f"features: say of which modality they are, {{modality: tensor}}; one of {modalities}")
        return {next(iter(self.widths)): features}
