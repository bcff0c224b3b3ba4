"""Mechanisms that put tokens in front of the text, where the language model takes them for ordinary ones.

Shapes: B batch, M perceived tokens, W word-embedding width.
"""

from __future__ import annotations

from epalm.models.layout import FrontTokens
from epalm.models.mechanisms.base import MASK, Mechanism, Perceived, joined


class InputTokens(Mechanism):
    """Base: `forward` gives the tokens of each modality, (B, M, W), and a mask where some are padding."""

    @property
    def width_out(self) -> int:
        """W."""
        return self.anatomy.embedding_width

    def front(self, perceived: Perceived) -> FrontTokens | None:
        """See `Mechanism`."""
        return joined(perceived) if perceived else None


__all__ = ["MASK", "InputTokens"]
