"""Tiny random encoders of clips and of sounds, as their checkpoints lie on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tiny_encoders import stir

WIDTH, LEVELS, SIZE, FRAMES, RATE = 24, 4, 32, 4, 16_000
BODY = {"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": LEVELS, "num_attention_heads": 2}
CLIPS = {**BODY, "image_size": SIZE, "num_frames": FRAMES}
STATISTICS = {"image_mean": [0.2, 0.5, 0.7], "image_std": [0.3, 0.4, 0.6]}
SPEECH = {
    **BODY,
    "conv_dim": (16, 16, 16),
    "conv_kernel": (10, 3, 2),
    "conv_stride": (5, 4, 4),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "vocab_size": 8,
}
STABLE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
WHISPER = {
    "vocab_size": 20,
    "num_mel_bins": 80,
    "d_model": WIDTH,
    "encoder_layers": LEVELS,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_source_positions": 100,
    "max_target_positions": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
}
CLAP = {
    "spec_size": 64,
    "num_mel_bins": 16,
    "patch_size": 4,
    "patch_stride": [4, 4],
    "window_size": 4,
    "hidden_size": WIDTH,
    "patch_embeds_hidden_size": 12,
    "depths": [2, 3],
    "num_attention_heads": [2, 2],
    "num_hidden_layers": 2,
    "projection_dim": 8,
}

VIDEO = {
    "timesformer": ("TimesformerModel", "TimesformerConfig", {**CLIPS, "patch_size": 8}),
    "videomae": ("VideoMAEModel", "VideoMAEConfig", {**CLIPS, "patch_size": 8, "use_mean_pooling": False}),
    "videomae-mean": ("VideoMAEForVideoClassification", "VideoMAEConfig", {**CLIPS, "patch_size": 8}),
    "vivit": ("VivitModel", "VivitConfig", {**CLIPS, "tubelet_size": [2, 8, 8]}),
}
AUDIO = {
    "ast": ("ASTModel", "ASTConfig", {**BODY, "max_length": 64, "num_mel_bins": 32, "patch_size": 16}),
    "whisper": ("WhisperForConditionalGeneration", "WhisperConfig", WHISPER),
    "wav2vec2": ("Wav2Vec2Model", "Wav2Vec2Config", SPEECH),
    "wav2vec2-stable": ("Wav2Vec2ForCTC", "Wav2Vec2Config", {**SPEECH, **STABLE}),
    "hubert": ("HubertModel", "HubertConfig", SPEECH),
    "hubert-stable": ("HubertModel", "HubertConfig", {**SPEECH, **STABLE}),
    "wavlm": ("WavLMModel", "WavLMConfig", SPEECH),
    "clap": ("ClapModel", "ClapConfig", CLAP),
    "clap-fused": ("ClapModel", "ClapConfig", {**CLAP, "enable_fusion": True}),
}


def build(name: str) -> torch.nn.Module:
    torch.manual_seed(sum(map(ord, name)))
    model, config, settings = (VIDEO | AUDIO)[name]
    if config == "ClapConfig":
        text = {**BODY, "vocab_size": 20, "projection_dim": 8, "max_position_embeddings": 16}
        settings = {"text_config": text, "audio_config": settings, "projection_dim": 8}
    return stir(getattr(transformers, model)(getattr(transformers, config)(**settings)))


def save(name: str, folder: Path) -> Path:
    build(name).save_pretrained(folder)
    processor(name).save_pretrained(folder)
    return folder


def processor(name: str) -> Any:
    square = {"height": SIZE, "width": SIZE}
    if name == "vivit":
        return transformers.VivitImageProcessor(size={"shortest_edge": SIZE}, crop_size=square)
    if name in VIDEO:
        return transformers.VideoMAEImageProcessorPil(size={"shortest_edge": SIZE}, crop_size=square, **STATISTICS)
    if name == "ast":
        return transformers.ASTFeatureExtractor(max_length=64, num_mel_bins=32)
    if name == "whisper":
        return transformers.WhisperFeatureExtractor(chunk_length=2)
    if name.startswith("clap"):
        return transformers.ClapFeatureExtractor(
            feature_size=16,
            sampling_rate=RATE,
            hop_length=160,
            max_length_s=2,
            fft_window_size=400,
            frequency_max=8000,
            truncation="fusion" if name == "clap-fused" else "rand_trunc",
        )
    return transformers.Wav2Vec2FeatureExtractor()


def clip(seed: int, height: int = 40, width: int = 50, frames: int = FRAMES) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def sound(seed: int, samples: int) -> np.ndarray:
    """A chord whose loudness changes, over noise."""
    random = np.random.default_rng(seed)
    time = np.arange(samples) / RATE
    chord = sum(np.sin(2 * np.pi * pitch * time) for pitch in random.uniform(80, 3000, 3))
    return (0.1 * chord * (1 + time) + 0.02 * random.normal(size=samples)).astype(np.float32)


def load_directly(name: str, folder: Path) -> torch.nn.Module:
    """The family's own class, named here and not found out."""
    return getattr(transformers, (VIDEO | AUDIO)[name][0]).from_pretrained(folder, dtype=torch.float32).eval()


@torch.no_grad()
def block_outputs(model: torch.nn.Module, blocks: str, **inputs: torch.Tensor) -> list[torch.Tensor]:
    """What each of the blocks called `blocks` gives, (B, S, E), while `model` is called with `inputs`."""
    kept: list[torch.Tensor] = []
    hooks = [
        block.register_forward_hook(lambda _m, _a, out: kept.append(out[0] if isinstance(out, tuple) else out))
        for block in model.get_submodule(blocks)
    ]
    model(**inputs)
    for hook in hooks:
        hook.remove()
    return kept
