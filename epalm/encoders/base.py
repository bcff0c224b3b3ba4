"""The contract of every encoder: raw inputs -> perceptual features (B, K, E), frozen (eP-ALM, ICCV 2023, section 3.1).

Level k is what the encoder's block k gives, under the encoder's own final LayerNorm; of it the [CLS] token is kept, or
the mean over valid tokens where there is none. The last K blocks are read, shallow to deep.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoModel

from epalm.encoders.anatomy import examine, first_output
from epalm.encoders.token_features import TokenFeatures
from epalm.errors import ConfigError, UnsupportedModelError
from epalm.runtime.loading_errors import require_own_weights
from epalm.runtime.locks import lock_of
from epalm.runtime.offloading import execution_device


def own_weights(model_class: Any, path: str, config: Any, **options: Any) -> tuple[Any, list[str]]:
    """A model of transformers, and the names of its weights that the checkpoint lacks.

    Args:
        model_class: has `from_pretrained`.
        path: directory or hub id.
        config: what the model is built by.
        options: of `from_pretrained`.

    Raises:
        ConfigError: the weights are of another model than the configuration.
    """
    model, report = model_class.from_pretrained(
        path, config=config, output_loading_info=True, ignore_mismatched_sizes=True, **options
    )
    require_own_weights(path, model, report)
    return model, list(report["missing_keys"])


class PerceptualEncoder(nn.Module, ABC):
    """A frozen Hugging Face encoder, read at its last K levels.

    A family says what its inputs are called, how files become inputs, and which tokens are padding; the rest is here.

    Args:
        backbone: the encoder; put into evaluation mode and frozen in place.
        processor: the encoder's own processor; without one `preprocess` is refused.
        source: hub id, directory or toy backbone, as the user named it.

    Raises:
        UnsupportedModelError: the backbone's levels cannot be read.
    """

    modality: ClassVar[str]
    """What is perceived: "image", "video" or "audio"."""
    input_names: ClassVar[tuple[str, ...]]
    """Keys of the inputs that `features` reads and `preprocess` gives."""

    def __init__(self, backbone: nn.Module, processor: Any = None, source: str | None = None) -> None:
        super().__init__()
        self.backbone = backbone.eval().requires_grad_(False)
        self.processor = processor
        self.source = source
        self.statistics: str = "own"
        """By whose mean and spread pixels are normalised; see `epalm.encoders.statistics`."""
        with lock_of(self.backbone):
            self.anatomy = examine(
                self.backbone, self._probe, self.name, blocks=self._blocks(), norm_required=self._norm_required()
            )
        """How the levels are read."""
        self.width: int = self.anatomy.width
        """E."""
        self.levels: int = len(self.anatomy.blocks)
        """The number of blocks, hence the most levels there are."""

    @property
    def reading(self) -> dict[str, Any]:
        """Keyword arguments that the decoder of this modality's files needs to give what `preprocess` takes."""
        return {}

    @classmethod
    def load_backbone(cls, path: str, config: Any, **options: Any) -> tuple[nn.Module, list[str]]:
        """The encoder from a directory or hub id, and the names of its weights that the checkpoint lacks.

        Raises what transformers raises, or an `EpalmError`. `options` are those of `from_pretrained`.
        """
        return own_weights(AutoModel, path, config, **options)

    @classmethod
    @abstractmethod
    def load_processor(cls, path: str) -> Any:
        """The encoder's own processor from a directory or hub id; raises what transformers raises."""

    @abstractmethod
    def preprocess(self, media: Sequence[Any]) -> dict[str, Tensor]:
        """Decoded media, a list of B -> the encoder's inputs (B, ...), through the encoder's own processor.

        Raises:
            ConfigError: the encoder was built without a processor.
            MediaError: one of `media` is not what `epalm.media` gives.
        """

    @abstractmethod
    def examples(self) -> dict[str, Tensor]:
        """Inputs for three made-up examples (3, ...), the first two the same, the third different in every part."""

    def token_mask(self, inputs: Mapping[str, Tensor]) -> Tensor | None:
        """Which tokens are real, (B, S) of bool; None where there is no padding."""
        return None

    @torch.no_grad()
    def features(self, inputs: Mapping[str, Tensor], levels: int) -> Tensor:
        """Perceptual features of the last `levels` blocks.

        Args:
            inputs: what `preprocess` gives (B, ...); moved to the backbone's device and, if floating, to its dtype.
            levels: K, from 1 to `self.levels`.

        Returns:
            (B, K, E), shallow to deep, without gradient.

        Raises:
            ConfigError: an input is missing, or `levels` is out of range.
        """
        self._check_levels(levels)
        inputs = self._placed(inputs)
        mask = self.token_mask(inputs)
        return torch.stack(self._read(inputs, levels, lambda tokens: self._summary(tokens, mask)), dim=1)  # (B, K, E)

    @torch.no_grad()
    def tokens(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Every token of the last level, normed: (B, S, E), without gradient. Arguments and errors as in `features`."""
        return self._read(self._placed(inputs), 1, self.anatomy.norm)[0]

    @property
    def token_count(self) -> int | None:
        """N, where every input gives as many tokens and none of them is padding; else None."""
        return self.anatomy.tokens

    @property
    def most_tokens(self) -> int | None:
        """The most tokens that an input gives; None where there is no limit, or it is not known."""
        return self.token_count

    @property
    def tokens_of_one(self) -> int:
        """Tokens that the blocks work on for one input of common size: what it costs to perceive it."""
        return self.anatomy.tokens

    @property
    def special_tokens(self) -> int:
        """How many of the tokens in front stand for no place: [CLS], registers, a distillation token.

        Of clips seen frame by frame, and of sounds window by window, every frame or window begins with as many.
        """
        return self.anatomy.special

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the patches, row by row behind the special tokens; None where they make no such grid."""
        return None

    @torch.no_grad()
    def every_token(self, inputs: Mapping[str, Tensor], levels: int) -> TokenFeatures:
        """Every real token of the last `levels` blocks, normed as in `features`: (B, K, N, E), without gradient.

        They stand in their order, and padding behind them; N is that of the longest of the inputs, or `token_count`.
        Arguments and errors as in `features`, and:

        Raises:
            UnsupportedModelError: there is a `token_count`, and these inputs do not give as many.
        """
        self._check_levels(levels)
        tokens = self._every_level(self._placed(inputs), levels, self.token_mask(inputs))
        if self.token_count not in (None, tokens.mask.shape[1]):
            raise UnsupportedModelError(
                f"{self.name}: gives {tokens.mask.shape[1]} tokens of one input and {self.token_count} of another; "
                "every token is taken of inputs of one size alone, to which its processor must bring them"
            )
        return tokens

    def train(self, mode: bool = True) -> PerceptualEncoder:
        """Set the mode of this module alone: the frozen backbone always stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    @property
    def device(self) -> torch.device:
        """Where the backbone is."""
        return execution_device(self.backbone)

    def with_own_processor(self) -> PerceptualEncoder:
        """The same encoder, weights and all, with a copy of the processor, for another thread to preprocess with."""
        twin = copy.copy(self)
        twin.processor = copy.deepcopy(self.processor)
        return twin

    @property
    def name(self) -> str:
        """What messages call this encoder: its source, else the class of its backbone."""
        return self.source or type(self.backbone).__name__

    def _probe(self) -> dict[str, Tensor]:
        """What the backbone is called with to be examined: the three examples."""
        return self._placed(self.examples())

    def _blocks(self) -> tuple[nn.Module, ...] | None:
        """The blocks to read, where they are not the outermost stack of equal ones."""
        return None

    def _norm_required(self) -> bool:
        """Refuse a backbone that has no final norm, instead of reading its blocks as they are."""
        return True

    def _check_levels(self, levels: int) -> None:
        if not 1 <= levels <= self.levels:
            raise ConfigError(f"levels: {self.name} has {self.levels} levels, {levels} were asked for")

    def _read(self, inputs: Mapping[str, Tensor], levels: int, pick: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """What `pick` keeps of each of the last `levels` blocks; nothing else outlives its block."""
        kept: list[Tensor] = []

        def keep(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
            kept.append(pick(first_output(output)))

        with lock_of(self.backbone):
            hooks = [block.register_forward_hook(keep) for block in self.anatomy.blocks[-levels:]]
            try:
                self.backbone(**inputs)
            finally:
                for hook in hooks:
                    hook.remove()
        return kept

    def _every_level(self, arguments: Mapping[str, Tensor], levels: int, mask: Tensor | None) -> TokenFeatures:
        """Normed tokens of what the backbone is called with, those that `mask` (B, S) marks as real."""
        norm = self.anatomy.norm
        if mask is None:
            return TokenFeatures.of(torch.stack(self._read(arguments, levels, norm), dim=1))  # (B, K, S, E)
        longest = int(mask.sum(dim=1).max())
        real_first = mask.int().argsort(dim=1, descending=True, stable=True)[:, :longest].to(self.device)  # (B, N)
        rows = torch.arange(len(mask), device=self.device)[:, None]
        states = self._read(arguments, levels, lambda tokens: norm(tokens[rows, real_first]))  # each (B, N, E)
        return TokenFeatures.of(torch.stack(states, dim=1), mask.to(self.device)[rows, real_first])

    def _summary(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Tokens (B, S, E) of one block -> (B, E)."""
        norm, summary, skip = self.anatomy.norm, self.anatomy.summary, self.anatomy.skip
        if summary == "cls":
            return norm(tokens[:, 0])
        if summary == "pooled":
            return norm(_mean(tokens[:, skip:], None if mask is None else mask[:, skip:]))
        return _mean(norm(tokens), mask)

    def _placed(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        missing = [name for name in self.input_names if name not in inputs]
        if missing:
            raise ConfigError(f"{self.name}: needs {', '.join(self.input_names)}; got {', '.join(inputs) or 'nothing'}")
        weight = next(weight for weight in self.backbone.parameters() if weight.is_floating_point())
        return {
            name: inputs[name].to(self.device, weight.dtype if inputs[name].is_floating_point() else None)
            for name in self.input_names
        }


def _mean(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of (B, S, E) over the S that `mask` (B, S) marks as real -> (B, E); whatever the others are, even NaN."""
    if mask is None:
        return tokens.mean(dim=1)
    real = mask.unsqueeze(-1)  # (B, S, 1)
    return tokens.masked_fill(~real, 0).sum(dim=1) / real.sum(dim=1).to(tokens.dtype)
