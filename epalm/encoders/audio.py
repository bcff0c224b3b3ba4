"""What all encoders of sounds share: windows, lengths, and silence that never counts.

A sound is a float32 array (N,) of one channel at `AudioEncoder.rate` samples a second. A sound that is longer than the
window is perceived by its first window alone, or window by window, whose features are averaged, each in proportion to
the sound it holds. A shorter one is filled up as the encoder's own feature extractor does it.

Inputs: what the extractor gives, (B, W, ...), and `lengths` (B, W) in samples, 0 where a sound has no more windows.
Shapes: B sounds, W windows, R windows that hold sound, S tokens, K levels, E width.
"""

from __future__ import annotations

import random
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoFeatureExtractor

from epalm.encoders.base import PerceptualEncoder
from epalm.encoders.masking import MaskedSound, masked
from epalm.encoders.token_features import TokenFeatures
from epalm.errors import ConfigError, MediaError

LongSounds = Literal["first", "windows"]


class AudioEncoder(PerceptualEncoder):
    """An encoder that takes sounds. A family says what the backbone is called with and which of its tokens are real.

    Args:
        backbone: see `PerceptualEncoder`.
        processor: the encoder's own feature extractor; without one `preprocess` is refused.
        source: see `PerceptualEncoder`.
        long_sounds: `first`: of a sound longer than the window the rest is not perceived; `windows`: all of it is.

    Raises:
        ConfigError: `long_sounds` is neither.
        UnsupportedModelError: see `PerceptualEncoder`.
    """

    modality = "audio"
    shortest: int = 1
    """Samples from which the backbone can make one token; shorter sounds are completed with silence."""

    def __init__(
        self,
        backbone: nn.Module,
        processor: Any = None,
        source: str | None = None,
        *,
        long_sounds: LongSounds = "first",
    ) -> None:
        if long_sounds not in get_args(LongSounds):
            raise ConfigError(f"long_sounds: one of {', '.join(get_args(LongSounds))}, not '{long_sounds}'")
        self.long_sounds: LongSounds = long_sounds
        """What is perceived of sounds that are longer than the window."""
        super().__init__(backbone, processor, source)

    @classmethod
    def load_processor(cls, path: str) -> Any:
        """The encoder's own feature extractor."""
        with warnings.catch_warnings():
            # Kaldi's 128 filters over 257 frequencies leave some of the lowest empty; AST was trained so.
            warnings.filterwarnings("ignore", message="At least one mel filter has all zero values")
            return AutoFeatureExtractor.from_pretrained(path, trust_remote_code=False)

    @property
    def rate(self) -> int | None:
        """Samples a second, as the extractor wants them; None without one."""
        return None if self.processor is None else int(self.processor.sampling_rate)

    @property
    def window(self) -> int | None:
        """Samples that are perceived at once, at most; None without an extractor."""
        return None if self.processor is None else self._window()

    @property
    def silence(self) -> float | None:
        """What stands for no sound in a spectrogram (T, mel); None of encoders that take no such, and mask nothing."""
        return None

    @property
    def reading(self) -> dict[str, Any]:
        """At which rate to decode, and how much is perceived at once."""
        return {} if self.rate is None else {"rate": self.rate, "window": self.window}

    def preprocess(self, media: Sequence[np.ndarray | MaskedSound]) -> dict[str, Tensor]:
        """B sounds of any length at `rate` -> the extractor's features (B, W, ...) and `lengths` (B, W).

        Raises:
            ConfigError: the encoder was built without a feature extractor, or has no spectrogram to mask.
            MediaError: a sound is no array (N,) of float32, holds no sample, or one that is no finite number.
        """
        if self.window is None:
            raise ConfigError(f"{self.name}: built without a feature extractor; give load_encoder(..., processor=...)")
        sounds = [sound.samples if isinstance(sound, MaskedSound) else sound for sound in media]
        windows = [self._split(_sound(sound, i), self.window) for i, sound in enumerate(sounds)]
        flat = [piece for pieces in windows for piece in pieces]
        values = self._extract([np.pad(piece, (0, max(0, self.shortest - len(piece)))) for piece in flat])  # (R, ...)
        self._mask(
            values, [(sound, i) for sound, pieces in zip(media, windows, strict=True) for i in range(len(pieces))]
        )
        lengths = torch.zeros(len(windows), max(map(len, windows)), dtype=torch.long)  # (B, W)
        for row, pieces in zip(lengths, windows, strict=True):
            row[: len(pieces)] = torch.tensor([len(piece) for piece in pieces])
        inputs = values.new_zeros(*lengths.shape, *values.shape[1:])
        inputs[lengths > 0] = values
        return {self.input_names[0]: inputs, "lengths": lengths}

    def examples(self) -> dict[str, Tensor]:
        """A second of noise twice and a second of rising tone, through the extractor if there is one."""
        noise = np.random.default_rng(0)
        if self.rate is not None:
            time = np.arange(self.rate) / self.rate
            hiss = noise.normal(0, 0.1, self.rate).astype(np.float32)
            tone = np.sin(2 * np.pi * (200 + 800 * time) * time).astype(np.float32)
            return self.preprocess([hiss, hiss, tone])
        values = torch.from_numpy(noise.normal(size=(2, *self._shape())).astype(np.float32))
        return {self.input_names[0]: values[[0, 0, 1]].unsqueeze(1), "lengths": torch.ones(3, 1, dtype=torch.long)}

    def token_mask(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Which of the tokens that `tokens` gives are real: (B, W * S) of bool."""
        filled = inputs["lengths"].cpu() > 0  # (B, W)
        mask = self._real_tokens(
            inputs["lengths"].cpu()[filled], self._tokens_of_window(inputs[self.input_names[0]])
        )  # (R, S)
        padded = mask.new_zeros(*filled.shape, mask.shape[1])
        padded[filled] = mask
        return padded.flatten(1)

    @torch.no_grad()
    def features(self, inputs: Mapping[str, Tensor], levels: int) -> Tensor:
        """As in the base: (B, K, E). Of several windows the mean, each weighing as much as the sound it holds."""
        self._check_levels(levels)
        values, lengths, filled = self._windows(inputs)
        features = self._perceive(values, lengths, levels)  # (R, K, E)
        weights = inputs["lengths"].cpu() / inputs["lengths"].cpu().sum(dim=1, keepdim=True)  # (B, W)
        padded = features.new_zeros(*filled.shape, *features.shape[1:], dtype=torch.float32)  # (B, W, K, E)
        padded[filled] = features.float()
        weights = weights[:, :, None, None].to(padded.device)
        return (padded * weights).sum(dim=1).to(features.dtype) if filled.shape[1] > 1 else features  # (B, K, E)

    @torch.no_grad()
    def tokens(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Every token of the last level, normed, window after window: (B, W * S, E); `token_mask` says which count."""
        values, lengths, filled = self._windows(inputs)
        tokens = self._every_token(values, lengths)  # (R, S, E)
        padded = tokens.new_zeros(*filled.shape, *tokens.shape[1:])  # (B, W, S, E)
        padded[filled] = tokens
        return padded.flatten(1, 2)

    @property
    def token_count(self) -> int | None:
        """None: padding, or the length of a sound, decides how many tokens count."""
        return None

    @property
    def most_tokens(self) -> int | None:
        """Those of a window; None where all windows are perceived."""
        return self._most_of_window() if self.long_sounds == "first" else None

    @torch.no_grad()
    def every_token(self, inputs: Mapping[str, Tensor], levels: int) -> TokenFeatures:
        """As in the base. Of several windows the tokens of one stand after those of the other."""
        self._check_levels(levels)
        values, lengths, filled = self._windows(inputs)
        return self._every_real_token(values, lengths, levels).chained(filled.sum(dim=1).tolist())

    @property
    def _model(self) -> Any:
        """The backbone, whose parts have the names that its own class gives them."""
        return self.backbone

    @abstractmethod
    def _window(self) -> int:
        """Samples that the extractor takes at once."""

    @abstractmethod
    def _extract(self, sounds: list[np.ndarray]) -> Tensor:
        """R sounds, none longer than the window -> (R, ...)."""

    @abstractmethod
    def _shape(self) -> tuple[int, ...]:
        """Shape of one window's features, told from the backbone alone."""

    def _arguments(self, values: Tensor) -> dict[str, Tensor]:
        """What the backbone is called with for windows (R, ...)."""
        return {self.input_names[0]: values}

    @abstractmethod
    def _tokens_of_window(self, values: Tensor) -> int:
        """S, the tokens that the backbone makes of each window's features (B, W, ...)."""

    def _most_of_window(self) -> int | None:
        """The most tokens that a window gives. By default those of the examples, as each is filled up."""
        return self.anatomy.tokens

    def _real_tokens(self, lengths: Tensor, tokens: int) -> Tensor:
        """Which of `tokens` tokens are real in windows that hold `lengths` (R,) samples: (R, S). By default all."""
        return torch.ones(len(lengths), tokens, dtype=torch.bool)

    def _perceive(self, values: Tensor, lengths: Tensor, levels: int) -> Tensor:
        """Windows (R, ...) -> (R, K, E)."""

        def pick(tokens: Tensor) -> Tensor:
            return self._summary(tokens, self._real_tokens(lengths, tokens.shape[1]).to(tokens.device))

        return torch.stack(self._read(self._arguments(values), levels, pick), dim=1)

    def _every_token(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Windows (R, ...) -> the tokens of the last level, normed (R, S, E)."""
        return self._read(self._arguments(values), 1, self.anatomy.norm)[0]

    def _every_real_token(self, values: Tensor, lengths: Tensor, levels: int) -> TokenFeatures:
        """Windows (R, ...) -> their real tokens at the last levels."""
        mask = self._real_tokens(lengths, self._tokens_of_window(values))  # (R, S)
        return self._every_level(self._arguments(values), levels, mask)

    def _split(self, sound: np.ndarray, window: int) -> list[np.ndarray]:
        end = len(sound) if self.long_sounds == "windows" else min(len(sound), window)
        return [sound[start : min(start + window, end)] for start in range(0, end, window)]

    def _mask(self, values: Tensor, windows: Sequence[tuple[np.ndarray | MaskedSound, int]]) -> None:
        """Mask those of the windows (R, ...) whose sounds are to be; each comes with its sound and its number there."""
        for row, (sound, number) in enumerate(windows):
            if isinstance(sound, MaskedSound):
                if self.silence is None:
                    raise ConfigError(f"{self.name}: takes no spectrogram that could be masked (data.mask_sounds)")
                values[row] = masked(values[row], random.Random(f"{sound.seed} {number}"), self.silence)

    def _windows(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The windows that hold sound (R, ...), their lengths (R,), and where they stood (B, W)."""
        placed = self._placed(inputs)
        lengths = inputs["lengths"].cpu()
        filled = lengths > 0
        return placed[self.input_names[0]][filled], lengths[filled], filled

    def _probe(self) -> dict[str, Tensor]:
        return self._arguments(self._placed(self.examples())[self.input_names[0]][:, 0])


def _sound(sound: Any, index: int) -> np.ndarray:
    if not (isinstance(sound, np.ndarray) and sound.dtype == np.float32 and sound.ndim == 1):
        kind = f"{sound.dtype} {sound.shape}" if isinstance(sound, np.ndarray) else type(sound).__name__
        raise MediaError(f"sound {index}: not an array (samples,) of float32 but {kind}")
    if not len(sound):
        raise MediaError(f"sound {index}: holds no sample")
    if not np.isfinite(sound).all():
        raise MediaError(f"sound {index}: holds samples that are not finite numbers")
    return sound
