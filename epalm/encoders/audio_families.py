"""The families of sound encoders: AST, Whisper, wav2vec 2.0 and its kin, CLAP.

They differ in what their extractors give and in what padding does inside them. Shapes: R windows, S tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import ClapAudioModel
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from epalm.encoders.audio import AudioEncoder
from epalm.encoders.base import own_weights
from epalm.encoders.registry import register_encoder
from epalm.encoders.token_features import TokenFeatures
from epalm.errors import UnsupportedModelError

_AST_FRAME, _AST_HOP = 400, 160  # samples; its extractor knows no others
_SECONDS = 30  # of a sound that an encoder without a window of its own perceives at once


@register_encoder("audio-spectrogram-transformer")
class SpectrogramEncoder(AudioEncoder):
    """AST: [CLS] of [CLS, distillation, patches...], over kaldi's log-mel filter bank, filled up with zeros.

    Nothing is averaged. [CLS] attends to what fills up the window, as it was trained to.
    """

    input_names = ("input_values", "lengths")
    shortest = _AST_FRAME

    @property
    def silence(self) -> float:
        """As the extractor's own padding: zero before it norms."""
        processor = self.processor
        return -processor.mean / (2 * processor.std) if processor is not None and processor.do_normalize else 0.0

    @property
    def token_count(self) -> int | None:
        """S of the one window that is perceived; None of several."""
        return self.anatomy.tokens if self.long_sounds == "first" else None

    def _window(self) -> int:
        return _AST_FRAME + (self.processor.max_length - 1) * _AST_HOP

    def _shape(self) -> tuple[int, ...]:
        return self._model.config.max_length, self._model.config.num_mel_bins

    def _extract(self, sounds: list[np.ndarray]) -> Tensor:
        return _float32(self.processor(sounds, sampling_rate=self.rate)["input_values"])  # (R, T, mel)

    def _tokens_of_window(self, values: Tensor) -> int:
        return self._model.embeddings.position_embeddings.shape[1]


@register_encoder("whisper")
class SpeechEncoder(AudioEncoder):
    """Whisper's encoder: the mean over the tokens that begin within the sound.

    A window of 30 s is 1,500 tokens, one every 320 samples (20 ms); of a sound of n samples the first ceil(n / 320) are
    averaged. The silence that fills up the window never enters that mean; but the encoder attends to it, as it was
    trained to. Silence at the end of a recording is part of it: the encoder then gives the same tokens, and more of
    them are averaged.
    """

    input_names = ("input_features", "lengths")

    @classmethod
    def load_backbone(cls, path: str, config: Any, **options: Any) -> tuple[nn.Module, list[str]]:
        """The encoder alone, out of a checkpoint that has a decoder as well."""
        mapping = {r"^(model\.)?encoder\.": ""}
        return own_weights(WhisperEncoder, path, config, key_mapping=mapping, **_without_remote(options))

    def _window(self) -> int:
        return self.processor.n_samples

    def _shape(self) -> tuple[int, ...]:
        return self._model.config.num_mel_bins, 2 * self._model.config.max_source_positions

    def _extract(self, sounds: list[np.ndarray]) -> Tensor:
        return _float32(self.processor(sounds, sampling_rate=self.rate)["input_features"])  # (R, mel, T)

    def _tokens_of_window(self, values: Tensor) -> int:
        return self._model.config.max_source_positions

    def _real_tokens(self, lengths: Tensor, tokens: int) -> Tensor:
        each = 2 * self.processor.hop_length if self.processor is not None else 1  # the second convolution's stride
        return torch.arange(tokens) * each < lengths[:, None]


@register_encoder("audio")
class WaveformEncoder(AudioEncoder):
    """wav2vec 2.0, HuBERT, WavLM, UniSpeech, data2vec: whatever takes samples and names its convolutions.

    Several of them norm over time or smear over it without a mask, so that padding would change every token. Sounds of
    one length are therefore perceived together, others apart, and nothing is ever padded.
    """

    input_names = ("input_values", "lengths")

    def __init__(self, backbone: nn.Module, *args: Any, **settings: Any) -> None:
        config: Any = backbone.config
        if not (hasattr(config, "conv_kernel") and hasattr(config, "conv_stride")):
            raise UnsupportedModelError(
                f"{type(backbone).__name__}: its configuration names no `conv_kernel` and `conv_stride`, by which to "
                "tell how many tokens a sound makes; it cannot be used"
            )
        self._convolutions = list(zip(config.conv_kernel, config.conv_stride, strict=True))
        self.shortest = 1
        for kernel, stride in reversed(self._convolutions):
            self.shortest = (self.shortest - 1) * stride + kernel
        super().__init__(backbone, *args, **settings)

    def _window(self) -> int:
        return _SECONDS * self.processor.sampling_rate

    def _shape(self) -> tuple[int, ...]:
        return (20 * self.shortest,)

    def _extract(self, sounds: list[np.ndarray]) -> Tensor:
        # Without padding, so that each is normed by its own mean and variance.
        values = self.processor(sounds, sampling_rate=self.rate, padding=False)["input_values"]
        longest = max(map(len, values))
        return _float32([np.pad(each, (0, longest - len(each))) for each in values])  # (R, N)

    def _tokens_of_window(self, values: Tensor) -> int:
        return int(self._tokens_of(torch.tensor(values.shape[-1])))

    def _most_of_window(self) -> int | None:
        return None if self.window is None else int(self._tokens_of(torch.tensor(self.window)))

    def _real_tokens(self, lengths: Tensor, tokens: int) -> Tensor:
        return torch.arange(tokens) < self._tokens_of(lengths)[:, None]

    def _tokens_of(self, lengths: Tensor) -> Tensor:
        tokens = lengths.clamp(min=self.shortest)
        for kernel, stride in self._convolutions:
            tokens = (tokens - kernel) // stride + 1
        return tokens

    def _perceive(self, values: Tensor, lengths: Tensor, levels: int) -> Tensor:
        groups = self._by_length(lengths)
        features = [
            super(WaveformEncoder, self)._perceive(values[rows, :n], lengths[rows], levels) for n, rows in groups
        ]
        return torch.cat(features)[_inverse(groups)]

    def _every_token(self, values: Tensor, lengths: Tensor) -> Tensor:
        groups = self._by_length(lengths)
        tokens = [super(WaveformEncoder, self)._every_token(values[rows, :n], lengths[rows]) for n, rows in groups]
        count = self._tokens_of_window(values)
        padded = [nn.functional.pad(each, (0, 0, 0, count - each.shape[1])) for each in tokens]  # each (rows, S, E)
        return torch.cat(padded)[_inverse(groups)]

    def _every_real_token(self, values: Tensor, lengths: Tensor, levels: int) -> TokenFeatures:
        groups = self._by_length(lengths)
        parts = [
            super(WaveformEncoder, self)._every_real_token(values[rows, :n], lengths[rows], levels)
            for n, rows in groups
        ]
        return TokenFeatures.joined(parts)[_inverse(groups)]

    def _by_length(self, lengths: Tensor) -> list[tuple[int, Tensor]]:
        lengths = lengths.clamp(min=self.shortest)
        return [(int(n), (lengths == n).nonzero()[:, 0]) for n in lengths.unique()]


@register_encoder("clap_audio_model")
class ClapEncoder(AudioEncoder):
    """CLAP's audio tower: the blocks of its last stage, the only ones that are as wide as its final norm.

    The extractor fills a window by repeating the sound as often as it fits; what stays silent after that is heard, but
    its tokens are not averaged.
    """

    input_names = ("input_features", "lengths")

    @classmethod
    def load_backbone(cls, path: str, config: Any, **options: Any) -> tuple[nn.Module, list[str]]:
        """The audio tower alone, out of a checkpoint that has a text tower as well."""
        mapping = {r"^audio_model\.": ""}
        return own_weights(ClapAudioModel, path, config, key_mapping=mapping, **_without_remote(options))

    def _blocks(self) -> tuple[nn.Module, ...]:
        return tuple(self._model.audio_encoder.layers[-1].blocks)

    def _window(self) -> int:
        return self.processor.nb_max_samples

    def _shape(self) -> tuple[int, ...]:
        config = self._model.config
        time = config.spec_size * (config.spec_size // config.num_mel_bins)
        return 4 if config.enable_fusion else 1, time, config.num_mel_bins

    def _extract(self, sounds: list[np.ndarray]) -> Tensor:
        return _float32(self.processor(sounds, sampling_rate=self.rate)["input_features"])  # (R, 1 or 4, T, mel)

    def _tokens_of_window(self, values: Tensor) -> int:
        rows, columns = self._model.audio_encoder.input_resolutions[-1]
        return rows * columns

    def _arguments(self, values: Tensor) -> dict[str, Tensor]:
        # No window is longer than the extractor's; it would call one of them so, at random, to keep training in step.
        longer = torch.zeros(len(values), 1, dtype=torch.bool, device=values.device)
        return {"input_features": values, "is_longer": longer}

    def _real_tokens(self, lengths: Tensor, tokens: int) -> Tensor:
        """The spectrogram is folded: `freq_ratio` stretches of time lie one below the other, each some rows high."""
        tower = self._model.audio_encoder
        rows, columns = tower.input_resolutions[-1]
        if self.processor is None or rows % tower.freq_ratio:
            return super()._real_tokens(lengths, tokens)
        window, times = self.window or 1, tower.freq_ratio * columns
        filled = {"repeat": torch.full_like(lengths, window), "repeatpad": lengths * (window // lengths)}
        share = filled.get(self.processor.padding, lengths) / window  # (R,)
        stretch = torch.arange(rows) // (rows // tower.freq_ratio)  # (rows,)
        time = (stretch[:, None] * columns + torch.arange(columns)).flatten()  # (S,)
        return time < (share * times)[:, None]


def _float32(values: Any) -> Tensor:
    return torch.from_numpy(np.stack([np.asarray(value, np.float32) for value in values]))


def _inverse(groups: list[tuple[int, Tensor]]) -> Tensor:
    return torch.cat([rows for _, rows in groups]).argsort()


def _without_remote(options: dict[str, Any]) -> dict[str, Any]:
    """A named class runs no code from a repository, and knows no such option."""
    return {key: value for key, value in options.items() if key != "trust_remote_code"}
