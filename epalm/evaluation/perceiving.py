"""Where a model's features come from, as the settings of a run say: its encoders, a store of theirs, or a ready one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from epalm.data.feature_cache import FeatureCache
from epalm.data.file_features import PerceivedFiles
from epalm.data.store import CachedFeatures, ImportedFeatures, StoreDescription, describe_encoder
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
    every_token: bool = False,
) -> PerceivedFiles:
    """The features that `model` gets of files.

    Args:
        model: on its backbones.
        data: the settings.
        views: those that training has.
        skip_bad: see `PerceivedFiles`.
        place: below which features are stored where `data.store` names no place; None: they are kept in memory.
        every_token: features are (B, K, S, E), to be stored alone.

    Raises:
        AdapterError: ready features are not those that the model was trained on.
        DataError: a store is damaged, or holds something else.
        UnsupportedModelError: every token is wanted, of an encoder whose tokens are not always as many.
    """
    views = views or Views()
    kept: dict[str, FeatureCache] = {}
    below = data.store if isinstance(data.store, Path) else place
    if data.store is not False and below is not None:
        for modality, encoder in model.encoders.items():
            description = describe_encoder(encoder, model.levels[modality], data.store_dtype, every_token=every_token)
            folder = below / f"{modality}-{description.key}"
            kept[modality] = CachedFeatures(folder, description, views, data.perception_batch, skip_bad=skip_bad)
    cards = model.perception.cards()
    for modality, folder in data.features.items():
        if modality in cards:
            kept[modality] = imported = ImportedFeatures(folder)
            _require_fit(folder, imported.store.description, modality, cards[modality])
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


def ready_cards(features: Mapping[str, Path]) -> dict[str, EncoderCard]:
    """What is known of ready features, by modality.

    Args:
        features: directories of stores, by modality.

    Raises:
        DataError: there is no store, or it holds every token and not (K, E).
    """
    return {
        modality: _card(folder, ImportedFeatures(folder).store.description) for modality, folder in features.items()
    }


def _card(folder: Path, description: StoreDescription) -> EncoderCard:
    if len(description.shape) != 2:
        raise DataError(
            f"{folder}: holds every token, features of shape (K, S, E) = {description.shape}, and which of them sums "
            "up its level is not known; adapters take (K, E): import those tokens, or the means, alone"
        )
    levels, width = description.shape
    return EncoderCard(
        source=None,
        family=description.family,
        width=width,
        levels=description.depth,
        used_levels=levels,
        fingerprint=description.fingerprint,
        frames=description.facts.get("frames"),
        long_sounds=description.facts.get("long_sounds"),
        features_by=description.made_by,
    )


def _require_fit(folder: Path, description: StoreDescription, modality: str, wanted: EncoderCard) -> None:
    """See that ready features are of the kind that the model was trained on, as far as that is known."""
    card = _card(folder, description)
    if card.used_levels < wanted.used_levels:
        raise DataError(f"{folder}: holds {card.used_levels} levels, {wanted.used_levels} are needed (adapter.levels)")
    check_fit(str(folder), f"{modality} features", wanted, card.model_copy(update={"used_levels": wanted.used_levels}))
    made_by, by = wanted.source or wanted.features_by, card.features_by
    if wanted.fingerprint is None and None not in (made_by, by) and made_by != by:
        raise DataError(f"{folder}: holds features of {by}; those of {made_by} are needed")
