"""What every mechanism is: a way for perception into a frozen decoder, and all that is trained for it.

    features -> forward: once for each input -> perceived tensors -> front: tokens before the text
                                                                 -> entered: what happens in the decoder's layers

Soft prompt and block adapters are no part of it; they go with any.

Shapes: B batch, K levels, N encoder tokens, E encoder width, M perceived tokens, S slots, W word-embedding width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from epalm.encoders import TokenFeatures
from epalm.errors import ConfigError
from epalm.models.anatomy import Anatomy
from epalm.models.injection import injected
from epalm.models.layout import FrontTokens, Layout
from epalm.models.window import Window
from epalm.settings import AdapterConfig

MASK = " mask"
"""What is behind the name of a modality where its mask is kept."""
Perceived = dict[str, Tensor]
"""What a mechanism made of features, by names of its own; B rows each, so that rows can be taken of it."""


@dataclass(frozen=True)
class FeatureShape:
    """What a mechanism is told of the features of one modality."""

    width: int
    """E."""
    levels: int
    """K, how many there are in the features."""
    tokens: int | None = None
    """N, or the most there are; unknown of ready features."""
    special_tokens: int = 0
    """Tokens before those of patches or frames: [CLS], registers."""
    grid: tuple[int, int] | None = None
    """Rows and columns of patches, where they form a grid."""


class Mechanism(nn.Module, ABC):
    """A way for perception into a frozen decoder.

    Args:
        config: the settings.
        anatomy: the language model's.
        window: what `window_of` said.
        shapes: of the features, by modality.
    """

    reads: ClassVar[Literal["summaries", "tokens"]]
    """`summaries`: one vector a level, (B, K, E); `tokens`: every token of the encoder, (B, K, N, E)."""
    has_window: ClassVar[bool] = False
    """Whether `adapter.start` and `adapter.end` mean something here."""
    default_levels: ClassVar[int] = 1
    """K, where the settings do not say it and the encoder has as many."""

    def __init__(
        self, config: AdapterConfig, anatomy: Anatomy, window: Window, shapes: Mapping[str, FeatureShape]
    ) -> None:
        super().__init__()
        self.config, self.anatomy, self.window, self.shapes = config, anatomy, window, dict(sorted(shapes.items()))

    # -- settled before it is made -----------------------------------------------------------------------------------

    @classmethod
    def window_of(cls, config: AdapterConfig, depth: int) -> Window:
        """The layers that it enters, of a decoder with so many.

        Raises:
            ConfigError: the settings do not fit.
        """
        for name in ("start", "end"):
            if getattr(config, name) is not None and not cls.has_window:
                raise ConfigError(f"adapter.{name}: {config.mechanism} has no window of layers; leave it out")
        return Window(0, depth)

    @classmethod
    def levels_of(
        cls, config: AdapterConfig, window: Window, encoder_levels: Mapping[str, int | None]
    ) -> dict[str, int]:
        """K, by modality.

        Args:
            config: the settings.
            window: what `window_of` said.
            encoder_levels: how many the encoder has, by modality; None where unknown.

        Raises:
            ConfigError: the settings do not fit.
        """
        if config.levels is not None and config.levels > cls.default_levels:
            raise ConfigError(
                f"adapter.levels: {config.mechanism} reads {cls.default_levels} of the encoder's levels, not "
                f"{config.levels}; leave it out"
            )
        wanted = config.levels or cls.default_levels
        chosen = {}
        for name, available in encoder_levels.items():
            if config.levels is not None and available is not None and config.levels > available:
                raise ConfigError(f"adapter.levels: {config.levels} levels, but the {name} encoder has {available}")
            chosen[name] = wanted if available is None else min(wanted, available)
        return chosen

    # -- what it is --------------------------------------------------------------------------------------------------

    @property
    def trained(self) -> nn.Module:
        """The module whose parameters are trained; what is saved has the names that they have in it."""
        return self

    @property
    def most_positions(self) -> int:
        """The most tokens that it puts in front of the text, as far as that is known."""
        return 0

    def scale_start(self, factor: float) -> None:
        """Have projections that begin at random begin this much smaller; here all start as published.

        Args:
            factor: `training.connector_init_scale`.
        """

    # -- what it does ------------------------------------------------------------------------------------------------

    @abstractmethod
    def forward(self, features: Mapping[str, Tensor | TokenFeatures]) -> Perceived:
        """What is trained, applied to the features of B inputs: all that does not depend on the text.

        Args:
            features: by modality, of the kind that `reads` names.
        """

    def slots(self, perceived: Perceived) -> int:
        """S: positions in front that nothing sees but where `entered` shows them."""
        return 0

    def front(self, perceived: Perceived) -> FrontTokens | None:
        """Tokens in front of the text; None where it puts none there."""
        return None

    def entered(self, language_model: nn.Module, layout: Layout, perceived: Perceived) -> AbstractContextManager[None]:
        """The context in which the language model's calls perceive; `layout` is what it is called with."""
        return injected(language_model, self.anatomy, 0, (), silent=layout.silent)


def joined(perceived: Perceived) -> FrontTokens:
    """The tokens of all modalities, one after the other: (B, M, W) by name, and masks (B, M) where there are any.

    Raises:
        ValueError: nothing is perceived.
    """
    names = [name for name in perceived if not name.endswith(MASK)]
    masks = [
        perceived.get(f"{name}{MASK}", perceived[name].new_ones(perceived[name].shape[:2], dtype=torch.bool))
        for name in names
    ]
    return FrontTokens(torch.cat([perceived[name] for name in names], dim=1), torch.cat(masks, dim=1))
