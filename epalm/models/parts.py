"""Gathering what a model is made of: backbones that are loaded or shared, and settings that are new or an adapter's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from epalm.encoders import LongSounds, PerceptualEncoder, Statistics
from epalm.errors import AdapterError, ConfigError
from epalm.models.adapter_io import SavedAdapter
from epalm.models.anatomy import Anatomy
from epalm.models.backbones import (
    SharedLanguageModel,
    Source,
    load_encoders,
    load_language_model,
    load_tokenizer,
    require_use,
)
from epalm.models.cards import EncoderCard, LanguageModelCard, check_fit
from epalm.models.perception import DEFAULT_MODALITY
from epalm.models.precision import Precision
from epalm.models.quantised import Quantization
from epalm.runtime.devices import usable_dtype
from epalm.settings import AdapterConfig

ByModality = int | Mapping[str, int] | None


@dataclass(frozen=True)
class Parts:
    """The arguments of `PerceptualLM`, by their names there."""

    language_model: PreTrainedModel
    anatomy: Anatomy
    encoders: Mapping[str, PerceptualEncoder]
    widths: Mapping[str, int]
    depths: Mapping[str, int | None]
    config: AdapterConfig
    source: str | None
    decoder_layers: str | None
    tokenizer: Any
    metadata: Mapping[str, Any]
    feature_cards: Mapping[str, EncoderCard]


@dataclass(frozen=True)
class Loading:
    """How backbones are held, and files read; the default of whatever is unset is the loading functions' own."""

    dtype: Precision | None = None
    """`auto` is the language model's alone; encoders are then float32."""
    device: str | torch.device | None = None
    attn_implementation: str | None = None
    """Of the language model."""
    quantization: Quantization | None = None
    """Likewise."""
    shard: bool = False
    """Likewise."""
    frames: int | None = None
    long_sounds: LongSounds | None = None
    statistics: Statistics | None = None

    def beside(self, language_model: Source | SharedLanguageModel) -> Loading:
        """The same, with encoders where a language model that is shared is, where nothing else is said."""
        if self.device is not None or not isinstance(language_model, SharedLanguageModel):
            return self
        return replace(self, device=language_model.device)

    def language_model(
        self, source: Source | SharedLanguageModel, decoder_layers: str | None
    ) -> tuple[PreTrainedModel, Anatomy, str | None]:
        """See `load_language_model`."""
        return load_language_model(
            source,
            decoder_layers=decoder_layers,
            dtype=self.dtype,
            device=self.device,
            attn_implementation=self.attn_implementation,
            quantization=self.quantization,
            shard=self.shard,
        )

    def encoders(self, sources: Source | Mapping[str, Source] | None) -> dict[str, PerceptualEncoder]:
        """See `load_encoders`."""
        return load_encoders(
            sources,
            dtype=None if self.dtype in (None, "auto") else usable_dtype(self.dtype, "torch_dtype"),
            device=self.device,
            frames=self.frames,
            long_sounds=self.long_sounds,
            statistics=self.statistics,
        )


def new_parts(
    language_model: Source | SharedLanguageModel,
    encoders: Source | Mapping[str, Source] | None,
    config: AdapterConfig,
    loading: Loading,
    *,
    tokenizer: Any = None,
    encoder_width: ByModality = None,
    encoder_levels: ByModality = None,
    ready_features: Mapping[str, EncoderCard] | None = None,
    decoder_layers: str | None = None,
) -> Parts:
    """What an untrained model is made of; arguments and errors as in `PerceptualLM.build`."""
    tokenizer = load_tokenizer(language_model) if tokenizer is None else tokenizer
    loading = loading.beside(language_model)
    lm, anatomy, source = loading.language_model(language_model, decoder_layers)
    loaded: dict[str, PerceptualEncoder] = {}
    widths: dict[str, int] = {}
    depths: dict[str, int | None] = {}
    feature_cards = dict(ready_features or {})
    if config.connector != "none":
        loaded = loading.encoders(encoders)
        require_use(loaded, loading.frames, loading.long_sounds, loading.statistics)
        widths = _by_modality(encoder_width) | {name: card.width for name, card in feature_cards.items()}
        widths |= {name: encoder.width for name, encoder in loaded.items()}
        available = _by_modality(encoder_levels) | {name: card.used_levels for name, card in feature_cards.items()}
        available |= {name: encoder.levels for name, encoder in loaded.items()}
        depths = {name: available.get(name) for name in widths}
        if not widths:
            raise ConfigError(f"connector '{config.connector}' needs an encoder, or encoder_width for ready features")
    return Parts(lm, anatomy, loaded, widths, depths, config, source, decoder_layers, tokenizer, {}, feature_cards)


def saved_parts(
    saved: SavedAdapter,
    language_model: Source | SharedLanguageModel | None,
    encoders: Source | Mapping[str, Source] | None,
    loading: Loading,
    *,
    tokenizer: Any = None,
) -> Parts:
    """What a saved adapter's model is made of; arguments and errors as in `PerceptualLM.from_pretrained`."""
    card, where = saved.card, saved.where
    lm_source = language_model if language_model is not None else card.language_model.source
    if lm_source is None:
        raise AdapterError(f"{where}: trained on a live language model that has no name; give language_model")
    if isinstance(lm_source, str | Path):  # a live language model stays as it is
        loading = replace(loading, quantization=loading.quantization or card.language_model.quantization)
    tokenizer = load_tokenizer(lm_source) if tokenizer is None else tokenizer
    loading = loading.beside(lm_source)
    layers = card.language_model.decoder_layers
    lm, anatomy, source = loading.language_model(lm_source, layers)
    check_fit(where, "language model", card.language_model, LanguageModelCard.of(lm, anatomy, source, layers))
    as_trained = replace(loading, **card.reading(loading.frames, loading.long_sounds, loading.statistics))
    loaded = as_trained.encoders(encoders) if card.encoders else {}
    unloaded = {name: each for name, each in card.encoders.items() if name not in loaded}
    feature_cards = {
        name: each for name, each in unloaded.items() if not each.source and (each.features_by or not each.fingerprint)
    }
    nameless = [name for name, each in unloaded.items() if not each.source and name not in feature_cards]
    if nameless:
        raise AdapterError(f"{where}: trained on a live {nameless[0]} encoder that has no name; give encoders")
    sources = {name: each.source for name, each in unloaded.items() if each.source}
    loaded |= as_trained.encoders(sources)
    if card.encoders:
        require_use(loaded, loading.frames, loading.long_sounds, loading.statistics)
    for name, encoder in loaded.items():
        if name not in card.encoders:
            raise AdapterError(f"{where}: trained without an encoder for {name}")
        used = card.encoders[name].used_levels
        check_fit(where, f"{name} encoder", card.encoders[name], EncoderCard.of(encoder, used))
    widths = {name: encoder.width for name, encoder in card.encoders.items()}
    # Of ready features there are no other levels than those that were used.
    depths = {
        name: each.used_levels if name in feature_cards or each.features_by else each.levels
        for name, each in card.encoders.items()
    }
    return Parts(
        lm, anatomy, loaded, widths, depths, card.adapter, source, layers, tokenizer, card.metadata, feature_cards
    )


def _by_modality(value: ByModality) -> dict[str, int]:
    """A number for the default modality, or numbers by modality."""
    if value is None:
        return {}
    return dict(value) if isinstance(value, Mapping) else {DEFAULT_MODALITY: value}
