"""`PerceptualLM`: making an augmented language model from its backbones, keeping it as an adapter, finding it again.

What it does when it runs is in `epalm.models.augmented_lm`.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi
from transformers import PreTrainedModel

from epalm.encoders import LongSounds, PerceptualEncoder, Statistics
from epalm.errors import AdapterError, ConfigError
from epalm.models.adapter_io import check_tensors, read_adapter, write_adapter
from epalm.models.anatomy import Anatomy
from epalm.models.augmented_lm import AugmentedLM
from epalm.models.backbones import SharedLanguageModel, Source
from epalm.models.cards import AdapterCard, EncoderCard, LanguageModelCard, new_card
from epalm.models.parts import Loading, new_parts, saved_parts
from epalm.models.precision import Precision
from epalm.models.quantised import Quantization
from epalm.models.special_tokens import end_token_warnings
from epalm.models.starting import join_tensors
from epalm.runtime.notices import OnWarning
from epalm.settings import AdapterConfig


class PerceptualLM(AugmentedLM):
    """A frozen language model that perceives; made by `build` or `from_pretrained`.

    Args:
        language_model: see `AugmentedParts`.
        anatomy: see `AugmentedParts`.
        encoders: see `AugmentedParts`.
        widths: see `AugmentedParts`.
        depths: see `AugmentedParts`.
        config: see `AugmentedParts`.
        source: where the language model came from.
        decoder_layers: where its layers are, if that had to be said.
        tokenizer: its tokenizer, for whoever wants it; nothing is read of it here but its end token.
        metadata: what travels with the adapter.
        feature_cards: see `Perception`.

    Raises:
        ConfigError: the settings do not fit the backbones.
        UnsupportedModelError: the block adapters do not fit the language model.
    """

    def __init__(
        self,
        language_model: PreTrainedModel,
        anatomy: Anatomy,
        encoders: Mapping[str, PerceptualEncoder],
        widths: Mapping[str, int],
        depths: Mapping[str, int | None],
        config: AdapterConfig,
        *,
        source: str | None = None,
        decoder_layers: str | None = None,
        tokenizer: Any = None,
        metadata: Mapping[str, Any] | None = None,
        feature_cards: Mapping[str, EncoderCard] | None = None,
    ) -> None:
        super().__init__(language_model, anatomy, encoders, widths, depths, config, feature_cards)
        self.source, self.decoder_layers = source, decoder_layers
        self.tokenizer, self.metadata = tokenizer, dict(metadata or {})

    # -- making one ------------------------------------------------------------------------------------------------

    @classmethod
    def build(
        cls,
        language_model: Source,
        encoders: Source | Mapping[str, Source] | None = None,
        config: AdapterConfig | str = "epalm_pt",
        *,
        tokenizer: Any = None,
        encoder_width: int | Mapping[str, int] | None = None,
        encoder_levels: int | Mapping[str, int] | None = None,
        ready_features: Mapping[str, EncoderCard] | None = None,
        decoder_layers: str | None = None,
        torch_dtype: Precision | None = None,
        device: str | torch.device | None = None,
        attn_implementation: str | None = None,
        quantization: Quantization | None = None,
        shard: bool = False,
        frames: int | None = None,
        long_sounds: LongSounds | None = None,
        statistics: Statistics | None = None,
        on_warning: OnWarning | None = None,
    ) -> PerceptualLM:
        """A new, untrained augmentation; `torch.manual_seed` before it makes it repeatable.

        Args:
            language_model: hub id, local directory, GGUF file (package gguf), `toyworld/lm`, or a live model (also on
                the `meta` device), which gets frozen. A `PerceptualLM` shares its own, with its tokenizer: there is one
                in memory, held as it is.
            encoders: one encoder or several by modality: the same kinds of source, or a `PerceptualEncoder`. With
                connector `none` they are not loaded.
            config: the settings, or a preset's name.
            tokenizer: kept as `.tokenizer`; unset: the one beside the language model, if it has one.
            encoder_width: E of ready features where there is no encoder, for `image` or by modality.
            encoder_levels: how many levels those features' encoder has, if known.
            ready_features: the same and more of what is known of ready features, by modality.
            decoder_layers: dotted path of the ModuleList of decoder layers, where the structure does not tell.
            torch_dtype: of the frozen weights, or its name; unset: float32, or as a live model has it. `auto`: for a
                language model from files bfloat16 where the device multiplies it natively, and float32 else.
            device: unset: the CPU, or where a live model is, or a shared language model.
            attn_implementation: `eager` or `sdpa` for the language model; unset: `eager` for bfloat16 on the CPU, where
                that is faster, else transformers' choice.
            quantization: of the language model's decoder layers: `int8`, on every device; `8bit` or `4bit`, by the
                package bitsandbytes, from files alone; unset: `none`, or as a live model is held.
            shard: share the language model's decoder layers out among all processes, which then must call the model
                equally often; see `epalm.models.sharding`.
            frames: frames of a clip; unset: what the encoder was trained with, or 8.
            long_sounds: what is perceived of sounds longer than the encoder's window: `first`, the first window, which
                is the default, or all `windows`, averaged.
            statistics: by whose mean and spread pixels are normalised: each encoder's `own`, which is the default, or
                those of `clip`, as the original had it.
            on_warning: told what is odd about the language model's end tokens; unset: Python's `warnings`. Of a shared
                language model nothing is said again.

        Raises:
            ConfigError: a source or a setting is wrong, or there is no such dtype or device.
            UnsupportedModelError: a backbone cannot be served.
        """
        config = AdapterConfig.from_preset(config) if isinstance(config, str) else config
        parts = new_parts(
            _shared(language_model),
            encoders,
            config,
            Loading(torch_dtype, device, attn_implementation, quantization, shard, frames, long_sounds, statistics),
            tokenizer=tokenizer,
            encoder_width=encoder_width,
            encoder_levels=encoder_levels,
            ready_features=ready_features,
            decoder_layers=decoder_layers,
        )
        model = cls(**vars(parts))
        model._warn(language_model, on_warning)
        return model

    @classmethod
    def from_pretrained(
        cls,
        adapter: str | Path,
        *,
        language_model: Source | None = None,
        encoders: Source | Mapping[str, Source] | None = None,
        tokenizer: Any = None,
        torch_dtype: Precision | None = None,
        device: str | torch.device | None = None,
        attn_implementation: str | None = None,
        quantization: Quantization | None = None,
        shard: bool = False,
        frames: int | None = None,
        long_sounds: LongSounds | None = None,
        statistics: Statistics | None = None,
        on_warning: OnWarning | None = None,
    ) -> PerceptualLM:
        """A saved adapter on its backbones: those it names, or those given here.

        Args:
            adapter: local directory or hub id.
            language_model: see `build`; unset: the one the adapter names.
            encoders: see `build`; unset: those the adapter names.
            tokenizer: see `build`.
            torch_dtype: see `build`.
            device: see `build`.
            attn_implementation: see `build`.
            quantization: see `build`; unset: as the adapter was trained, or as a live model is held.
            shard: see `build`.
            frames: see `build`; unset: as the adapter was trained.
            long_sounds: see `build`; unset: as the adapter was trained.
            statistics: see `build`; unset: as the adapter was trained.
            on_warning: see `build`.

        Raises:
            AdapterError: the adapter is damaged, or does not fit the backbones.
            ConfigError: a backbone cannot be loaded, or there is no such dtype or device.
            UnsupportedModelError: a backbone cannot be served.
        """
        saved = read_adapter(adapter)
        loading = Loading(
            torch_dtype, device, attn_implementation, quantization, shard, frames, long_sounds, statistics
        )
        parts = saved_parts(saved, _shared(language_model), encoders, loading, tokenizer=tokenizer)
        try:
            model = cls(**vars(parts))
        except ConfigError as error:
            raise AdapterError(f"{saved.where}: {error}") from None
        check_tensors(saved, model.trained_state_dict())
        model.load_trained_state_dict(saved.tensors)
        model._warn(language_model, on_warning)
        return model.eval()

    def start_from(self, *adapters: str | Path) -> None:
        """Start from what saved adapters have learned: one of the same modalities, or one for each of several.

        What several of them hold, such as the soft prompt, starts as their mean; what none holds stays as it is. The
        window may be another than theirs.

        Args:
            adapters: local directories or hub ids.

        Raises:
            AdapterError: one is damaged, or does not fit the backbones or the settings, or two have the same modality.
        """
        saved = [read_adapter(adapter) for adapter in adapters]
        self.load_trained_state_dict(join_tensors(saved, self.card(), self.trained_state_dict()))

    # -- keeping one -----------------------------------------------------------------------------------------------

    def save_pretrained(self, directory: str | Path, metadata: Mapping[str, Any] | None = None) -> None:
        """Write `adapter_config.json`, `adapter_model.safetensors` and `README.md` into `directory`.

        Args:
            directory: made if it is not there; an adapter in it is replaced as a whole.
            metadata: JSON-able facts to keep with it, beside those that `.metadata` already holds.

        Raises:
            AdapterError: it cannot be written, or a trained tensor is not finite.
            ConfigError: `metadata` holds what JSON cannot.
        """
        merged = {**self.metadata, **(metadata or {})}
        try:
            json.dumps(merged, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"metadata: JSON cannot hold it: {error}") from None
        self.metadata = merged
        write_adapter(directory, self.card(), self.trained_state_dict())

    def push_to_hub(
        self, repo_id: str, *, private: bool = False, token: str | None = None, commit_message: str = "Upload adapter"
    ) -> str:
        """Upload the adapter to the Hugging Face Hub, and give its address."""
        api = HfApi(token=token)
        with tempfile.TemporaryDirectory() as scratch:
            self.save_pretrained(scratch)
            address = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo_id, folder_path=scratch, commit_message=commit_message)
        return str(address)

    def card(self) -> AdapterCard:
        """All that `adapter_config.json` says."""
        summary = self.summary()
        return new_card(
            adapter=self.config,
            language_model=LanguageModelCard.of(self.language_model, self.anatomy, self.source, self.decoder_layers),
            encoders=self.perception.cards(),
            trained_parameters=summary.trained,
            trained_share=summary.share,
            metadata=self.metadata,
        )

    def _warn(self, language_model: Any, on_warning: OnWarning | None) -> None:
        """Tell what is odd about a language model that is new here."""
        if isinstance(language_model, PerceptualLM):
            return
        for line in end_token_warnings(self.language_model, self.tokenizer, self.source):
            if on_warning is None:
                warnings.warn(line, stacklevel=3)
            else:
                on_warning(line)


def _shared(language_model: Any) -> Any:
    """The language model of a model that has one already, to be shared; anything else as it is."""
    if isinstance(language_model, PerceptualLM):
        return SharedLanguageModel(language_model.language_model, language_model.source, language_model.tokenizer)
    return language_model
