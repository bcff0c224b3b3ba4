"""Where a model's features come from, as the settings of a run say: its encoders, a store of theirs, or a ready one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from epalm.data.feature_cache import FeatureCache
from epalm.data.file_features import PerceivedFiles
from epalm.data.store import CachedFeatures, FeatureStore, ImportedFeatures, describe_encoder
from epalm.data.views import Views
from epalm.errors import DataError
from epalm.models import PerceptualLM
from epalm.models.cards import EncoderCard, check_fit
from epalm.recipe import DataSettings


def perceived_files(
    model: PerceptualLM,
    data: DataSettings,
    *,
    views: Views | None = None,
    skip_bad: bool = False,
    place: Path | None,
    every_token: bool | None = None,
) -> PerceivedFiles:
    """The features that `model` gets of files.

    Args:
        model: on its backbones.
        data: the settings.
        views: those that training has.
        skip_bad: see `PerceivedFiles`.
        place: below which features are stored where `data.store` names no place; None: they are kept in memory.
        every_token: perceive every token, or (K, E); unset: what the model reads.

    Raises:
        AdapterError: ready features are not those that the model was trained on.
        DataError: a store is damaged, or holds something else.
    """
    views, every_token = views or Views(), model.reads_tokens if every_token is None else every_token
    kept: dict[str, FeatureCache] = {}
    below = data.store if isinstance(data.store, Path) else place
    if data.store is not False and below is not None:
        for modality, encoder in model.encoders.items():
            description = describe_encoder(encoder, model.levels[modality], data.store_dtype, every_token=every_token)
            folder = below / f"{modality}-{description.key}"
            kept[modality] = CachedFeatures(folder, description, views, data.perception_batch, skip_bad=skip_bad)
    kept |= ready_stores(model, data.features)
    encoders = {name: encoder for name, encoder in model.encoders.items() if name not in data.features}
    return PerceivedFiles(
        encoders,
        model.levels,
        batch_size=data.perception_batch,
        keep=data.store is not False,
        views=views,
        skip_bad=skip_bad,
        kept=kept,
        every_token=every_token,
    )


def ready_stores(model: PerceptualLM, features: Mapping[str, Path]) -> dict[str, ImportedFeatures]:
    """The stores of ready features that `model` takes, by modality.

    Args:
        model: with or without its weights.
        features: directories of stores, by modality; those of modalities that it does not perceive are left alone.

    Raises:
        AdapterError: they do not hold what the model was trained on.
        DataError: there is no store, or it holds too few levels, or every token where the model reads (K, E), or the
            other way round.
    """
    cards, stores = model.perception.cards(), {}
    for modality, folder in features.items():
        if modality in cards:
            stores[modality] = imported = ImportedFeatures(folder)
            _require_fit(imported.store, modality, cards[modality], model.reads_tokens)
    return stores


def ready_cards(features: Mapping[str, Path]) -> dict[str, EncoderCard]:
    """What is known of ready features, by modality.

    Args:
        features: directories of stores, by modality.

    Raises:
        DataError: there is no store.
    """
    return {modality: _card(ImportedFeatures(folder).store) for modality, folder in features.items()}


def _card(store: FeatureStore) -> EncoderCard:
    description = store.description
    levels = description.shape[0]
    return EncoderCard(
        source=None,
        family=description.family,
        width=description.shape[-1],
        levels=description.depth,
        used_levels=levels,
        fingerprint=description.fingerprint,
        frames=description.facts.get("frames"),
        long_sounds=description.facts.get("long_sounds"),
        features_by=description.made_by,
        tokens=store.most_tokens,
        special_tokens=description.special_tokens,
        grid=description.grid,
    )


def _require_fit(store: FeatureStore, modality: str, wanted: EncoderCard, every_token: bool) -> None:
    """See that ready features are of the kind that the model was trained on, as far as that is known."""
    folder, description = store.folder, store.description
    if description.of_every_token and not every_token:
        raise DataError(
            f"{folder}: holds every token, features of shape (K, N, E) = {description.shape_text}, and which of them "
            "sums up its level is not known; the adapter takes (K, E): import those tokens, or the means, alone"
        )
    if every_token and not description.of_every_token:
        raise DataError(
            f"{folder}: holds features of shape (K, E) = {description.shape_text}, and the adapter reads every token, "
            "(K, N, E): import those, or build them (epalm features build)"
        )
    card = _card(store)
    if card.used_levels < wanted.used_levels:
        raise DataError(f"{folder}: holds {card.used_levels} levels, {wanted.used_levels} are needed (adapter.levels)")
    may_differ = {"used_levels": wanted.used_levels, "tokens": wanted.tokens}
    check_fit(str(folder), f"{modality} features", wanted, card.model_copy(update=may_differ))
    made_by, by = wanted.source or wanted.features_by, card.features_by
    if wanted.fingerprint is None and None not in (made_by, by) and made_by != by:
        raise DataError(f"{folder}: holds features of {by}; those of {made_by} are needed")
