"""Which decoder layers receive perception, and which encoder level each of them gets (eP-ALM section 3.2).

Layers `[start, end)` of L form the window. With K levels, shallow to deep, `step = (end - start) // K` if there are
more layers than levels and more than one level, else 1; layer `i` gets level `min((i - start) // step, K - 1)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from epalm.errors import ConfigError
from epalm.settings import AdapterConfig

_DEFAULT_LEVELS = 6


@dataclass(frozen=True)
class Window:
    """The layers `[start, end)` of a language model that receive perception."""

    start: int
    end: int

    @classmethod
    def resolve(cls, config: AdapterConfig, depth: int) -> Window:
        """The window that `config` asks for in a model of `depth` layers.

        Unset, `start` is round(19 L / 32) and `end` is L - 1, moved only as far as a very shallow model or the
        other, given end of the window demands.

        Raises:
            ConfigError: the window does not fit into the model.
        """
        start, end = config.start, config.end
        if end is not None and end > depth:
            raise ConfigError(f"adapter.end: {end} is beyond the language model's {depth} layers")
        if start is not None and start >= depth:
            raise ConfigError(
                f"adapter.start: {start} is beyond the language model's {depth} layers (0 to {depth - 1})"
            )
        if start is None:
            start = min(round(19 * depth / 32), (end or depth) - 1)
        if end is None:
            end = max(depth - 1, start + 1)
        return cls(start, end)

    def levels(self, config: AdapterConfig, encoder_levels: Mapping[str, int | None]) -> dict[str, int]:
        """K for every modality: as asked, else min(6, layers of the window, levels the encoder has).

        With the original's mask more levels may be asked for than there are layers, as there; the deepest reach none.

        Raises:
            ConfigError: an encoder has fewer levels than asked for, or some levels would reach no layer.
        """
        width = self.end - self.start
        if config.levels is not None and config.levels > width and config.mask != "legacy":
            raise ConfigError(
                f"adapter.levels: {config.levels} levels for the {width} layers of the window "
                f"[{self.start}, {self.end}): the deepest would never be used"
            )
        chosen = {}
        for modality, available in encoder_levels.items():
            if config.levels is not None and available is not None and config.levels > available:
                raise ConfigError(f"adapter.levels: {config.levels} levels, but the {modality} encoder has {available}")
            chosen[modality] = config.levels or min(_DEFAULT_LEVELS, width, available or _DEFAULT_LEVELS)
        return chosen

    def used(self, levels: int) -> int:
        """How many of K levels reach a layer, the shallowest of them."""
        return min(levels, self.end - self.start)

    def schedule(self, levels: int) -> list[int]:
        """The level that each layer of the window gets, first to last."""
        width = self.end - self.start
        step = width // levels if width > levels > 1 else 1
        return [min(offset // step, levels - 1) for offset in range(width)]
