"""The soft prompt: P trained vectors in word-embedding space, in front of the text (eP-ALM section 3.3).

Every prompt starts near the mean word embedding: a place the language model knows, and no word in particular.

Shapes: forward() -> (P, W), float32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from epalm.runtime.offloading import execution_device

_NOISE = 0.1  # of the word embeddings' spread: enough to tell the P vectors apart
_SAMPLED_WORDS = 4096


class PlainPrompt(nn.Module):
    """P free vectors."""

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(vectors)

    def forward(self) -> Tensor:
        """The prompt. Output shape: (P, W)."""
        return self.weight


class MlpPrompt(nn.Module):
    """P embeddings through Linear, Tanh, Linear: more weights to train the same P vectors by."""

    def __init__(self, tokens: int, mean: Tensor, noise: Tensor) -> None:
        super().__init__()
        width = mean.shape[0]
        self.embedding = nn.Embedding(tokens, width, dtype=torch.float32)
        self.inner = nn.Linear(width, width, dtype=torch.float32)
        self.outer = nn.Linear(width, width, dtype=torch.float32)
        with torch.no_grad():  # tanh of a unit embedding is about a half, so twice the noise per square root of width
            self.outer.weight.normal_().mul_(2 * noise / width**0.5)
            self.outer.bias.copy_(mean)

    def forward(self) -> Tensor:
        """The prompt. Output shape: (P, W)."""
        return self.outer(torch.tanh(self.inner(self.embedding.weight)))

    @torch.no_grad()
    def fold(self) -> PlainPrompt:
        """The same prompt as P free vectors."""
        return PlainPrompt(self().clone())


def build_prompt(kind: str, tokens: int, words: nn.Module) -> PlainPrompt | MlpPrompt:
    """A new soft prompt of `tokens` vectors for the word embedding `words`: `plain` or `mlp`."""
    mean, spread = _word_statistics(words)
    if kind == "mlp":
        return MlpPrompt(tokens, mean, _NOISE * spread)
    return PlainPrompt(mean + _NOISE * spread * torch.randn(tokens, *mean.shape, device=mean.device))


@torch.no_grad()
def _word_statistics(words: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean word embedding (W,) and the spread about it, a scalar, over evenly spaced words as the model embeds them.

    A table on the `meta` device has no values; tensors on that device stand for them.
    """
    table: Tensor = words.weight  # type: ignore[assignment]
    device = execution_device(words)
    if device.type == "meta":
        return torch.zeros(table.shape[1], device="meta"), torch.ones((), device="meta")
    stride = max(1, table.shape[0] // _SAMPLED_WORDS)
    rows = words(torch.arange(0, table.shape[0], stride, device=device)).float().cpu()  # (words, W)
    return rows.mean(0), rows.std(0, correction=0).mean()
