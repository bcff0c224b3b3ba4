"""What a model perceives by: for every modality a frozen encoder, if it has one, and the trained mechanism.

    raw inputs -> encoder (B, K, E), or every token (B, K, N, E) -> mechanism

Shapes: B batch, K levels, N encoder tokens, E encoder width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from epalm.encoders import PerceptualEncoder, TokenFeatures
from epalm.errors import DataError, is_out_of_memory
from epalm.models.call_arguments import features_of, raw_inputs_of, require_shapes
from epalm.models.cards import EncoderCard
from epalm.models.mechanisms import FeatureShape, Mechanism, Perceived

Features = Tensor | TokenFeatures | Mapping[str, Tensor | TokenFeatures]
"""(B, K, E), or every token, where there is one modality, or by modality."""
Pixels = Tensor | Mapping[str, Any]
"""What the image encoder takes, or by modality, or what an image processor gives."""
RawInputs = Mapping[str, Mapping[str, Tensor]]
"""What encoders take, by name, by modality."""
DEFAULT_MODALITY = "image"


class Perception(nn.Module):
    """Encoders by modality, in alphabetical order, and the mechanism that makes something of what they give.

    Args:
        encoders: by modality. A modality without one takes ready features only.
        depths: how many levels each encoder has, by modality; None where unknown.
        mechanism: knows the width and the levels of each modality.
        feature_cards: what is known of ready features, by modality.
    """

    def __init__(
        self,
        encoders: Mapping[str, PerceptualEncoder],
        depths: Mapping[str, int | None],
        mechanism: Mechanism,
        feature_cards: Mapping[str, EncoderCard] | None = None,
    ) -> None:
        super().__init__()
        self.encoders: Any = nn.ModuleDict(dict(encoders))
        self.feature_cards, self.depths, self.mechanism = dict(feature_cards or {}), dict(depths), mechanism
        self.widths = {name: shape.width for name, shape in mechanism.shapes.items()}
        self.levels = {name: shape.levels for name, shape in mechanism.shapes.items()}

    @property
    def connector(self) -> nn.Module:
        """What is trained of the mechanism."""
        return self.mechanism.trained

    @property
    def reads_tokens(self) -> bool:
        """Whether every token of the encoder is wanted, and not one vector a level."""
        return self.mechanism.reads == "tokens"

    @torch.no_grad()
    def encode(
        self, pixel_values: Pixels | None = None, inputs: RawInputs | None = None
    ) -> dict[str, Tensor | TokenFeatures]:
        """Perceptual features of raw inputs, (B, K, E) or every token, by modality.

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
    ) -> Perceived:
        """What the mechanism makes of features.

        Without any modality this is always empty: the blind floor may be given what the others are given.

        Args:
            features: (B, K, E), or every token, where there is one modality, or by modality.
            pixel_values: see `encode`.
            inputs: see `encode`.
            must_be_finite: look at every number, for which a GPU must finish all it has to do. In training the loss
                tells of it, later.

        Raises:
            DataError: a modality is unknown or given twice, or features have another shape than the mechanism reads,
                or must be finite numbers and are not.
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
        given = {name: self._of_right_shape(name, each) for name, each in given.items()}
        for name, each in given.items() if must_be_finite else ():
            values = each.values if isinstance(each, TokenFeatures) else each
            if not (finite := values.isfinite().flatten(1).all(dim=1)).all():  # (B,)
                row = int(finite.int().argmin())
                raise DataError(
                    f"{name} features: row {row} of {len(values)} (from 0) holds NaN or infinity; mend it, or leave it "
                    "out"
                )
        return self.mechanism(given) if given else {}

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

    def _of_right_shape(self, name: str, features: Tensor | TokenFeatures) -> Tensor | TokenFeatures:
        """Features as the mechanism reads them, of all tokens with a mask."""
        levels, width = self.levels[name], self.widths[name]
        if not self.reads_tokens:
            if isinstance(features, TokenFeatures) or features.ndim != 3 or features.shape[1:] != (levels, width):
                raise DataError(f"{name} features: expected (B, {levels}, {width}), got {_shape_of(features)}")
            return features
        values = features.values if isinstance(features, TokenFeatures) else features
        if values.ndim != 4 or (values.shape[1], values.shape[3]) != (levels, width) or not values.shape[2]:
            raise DataError(
                f"{name} features: expected every token, (B, {levels}, N, {width}), got {_shape_of(features)}"
            )
        return features if isinstance(features, TokenFeatures) else TokenFeatures.of(features)

    def _features(self, modality: str, inputs: Mapping[str, Tensor]) -> Tensor | TokenFeatures:
        """(B, K, E), or every token."""
        encoder: PerceptualEncoder = self.encoders[modality]
        read = encoder.every_token if self.reads_tokens else encoder.features
        try:
            return read(inputs, self.levels[modality])
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            if not is_out_of_memory(error):
                require_shapes(modality, encoder, inputs)
            raise


def shape_of(encoder: PerceptualEncoder | None, card: EncoderCard | None, width: int, levels: int) -> FeatureShape:
    """What a mechanism is told of features: of an encoder's, or of ready ones."""
    if encoder is not None:
        return FeatureShape(width, levels, encoder.most_tokens, encoder.special_tokens, encoder.grid)
    if card is not None and card.tokens is not None:
        return FeatureShape(width, levels, card.tokens, card.special_tokens or 0, card.grid)
    return FeatureShape(width, levels)


def _shape_of(features: Tensor | TokenFeatures) -> tuple[int, ...]:
    return tuple(features.values.shape if isinstance(features, TokenFeatures) else features.shape)
