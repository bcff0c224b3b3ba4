"""A saved adapter, or several on one language model -> their models and the settings that they answer with."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from epalm.errors import AdapterError, ConfigError
from epalm.models import PerceptualLM
from epalm.models.adapter_io import SavedAdapter, read_adapter
from epalm.models.cards import first_difference
from epalm.recipe import Recipe, build_recipe
from epalm.runtime.notices import OnWarning
from epalm.runtime.processes import own_device, require_own_devices
from epalm.tasks.template import FORMER_TEXT

SAVED_GROUPS = ("model", "text", "generation")
"""Groups of settings that an adapter keeps, in part or as a whole, so that it answers as it did when it was trained."""
_CHANGEABLE = (
    "model.",
    "text.",
    "generation.",
    "data.features",
    "data.store",
    "data.perception_batch",
    "data.evaluation_frames",
)
_OF_MODALITY = {"model.frames": {"video"}, "model.long_sounds": {"audio"}, "model.statistics": {"image", "video"}}
"""Settings of encoders of some modalities."""


def load_adapter(
    adapter: str | Path,
    overrides: Mapping[str, Any] | None = None,
    language_model: PerceptualLM | None = None,
    on_warning: OnWarning | None = None,
) -> tuple[PerceptualLM, Recipe]:
    """An adapter on the backbones it names, and the settings it was trained with.

    Args:
        adapter: directory or hub id.
        overrides: dotted settings to change, of `model`, `text` and `generation`, and how files are perceived.
        language_model: share this model's language model instead of loading one.
        on_warning: see `PerceptualLM.build`.

    Raises:
        AdapterError: the adapter is damaged or does not fit its backbones, or those are not there.
        ConfigError: a setting is wrong or has no effect any more, a backbone cannot be loaded, or all processes would
            go to one device.
        UnsupportedModelError: a backbone cannot be served.
    """
    overrides = overrides or {}
    saved = read_adapter(adapter)
    recipe = _saved_recipe(saved, overrides)
    require_own_devices(recipe.model.device)
    replaced = {name.split(".")[1] for name in overrides} & {"language_model", "encoders"}
    backbones: dict[str, Any] = {name: getattr(recipe.model, name) for name in replaced}
    if language_model is not None:
        if "language_model" in backbones:
            raise ConfigError("--model.language_model: the one of another model is shared; leave it out")
        backbones["language_model"] = language_model
    _require_backbones(saved, backbones)
    model = PerceptualLM.from_pretrained(
        adapter,
        **backbones,
        torch_dtype=recipe.model.dtype(),
        device=own_device(recipe.model.device_or_best()) if language_model is None else recipe.model.device,
        attn_implementation=recipe.model.attn_implementation,
        quantization=recipe.model.quantization,
        shard=recipe.model.shard,
        frames=recipe.model.frames,
        long_sounds=recipe.model.long_sounds,
        statistics=recipe.model.statistics,
        on_warning=on_warning,
    )
    return model, recipe


def load_adapters(
    adapters: Sequence[str | Path],
    overrides: Mapping[str, Any] | None = None,
    on_warning: OnWarning | None = None,
) -> dict[str, tuple[PerceptualLM, Recipe]]:
    """Adapters of different modalities by name, on one language model; all is checked before anything is loaded.

    Args:
        adapters: directories or hub ids.
        overrides: see `load_adapter`; what is said of one modality goes to the adapter that perceives it.
        on_warning: see `PerceptualLM.build`.

    Raises:
        AdapterError: see `load_adapter` and `require_distinct_modalities`; or their language models, or how those are
            held, differ.
        ConfigError: see `load_adapter`.
        UnsupportedModelError: see `load_adapter`.
    """
    saved = [read_adapter(adapter) for adapter in adapters]
    require_distinct_modalities([(each.where, each.card.encoders) for each in saved])
    shares = _shared_out(overrides or {}, [each.card.encoders for each in saved])
    _require_one_language_model(saved, [_saved_recipe(*each) for each in zip(saved, shares, strict=True)])
    loaded: dict[str, tuple[PerceptualLM, Recipe]] = {}
    first: PerceptualLM | None = None
    for adapter, share in zip(adapters, shares, strict=True):
        if first is not None:
            share.pop("model.language_model", None)
        loaded[str(adapter)] = load_adapter(adapter, share, first, on_warning)
        first = first or loaded[str(adapter)][0]
    return loaded


def require_distinct_modalities(perceived: Sequence[tuple[str, Collection[str]]]) -> None:
    """See that adapters can be told apart by what they perceive.

    Args:
        perceived: of each adapter its name and its modalities.

    Raises:
        AdapterError: there are none, one perceives nothing, or two perceive the same.
    """
    if not perceived:
        raise AdapterError("adapters: there are none; name one")
    taken: dict[str, str] = {}
    for name, modalities in perceived:
        if not modalities:
            raise AdapterError(f"{name}: perceives nothing, so no input is its own; use it alone")
        for modality in modalities:
            if modality in taken:
                raise AdapterError(f"{name}: perceives {modality}, as {taken[modality]} does; leave one of them out")
            taken[modality] = name


def _require_one_language_model(saved: Sequence[SavedAdapter], recipes: Sequence[Recipe]) -> None:
    """See that all adapters were trained on the same language model, held in the same way."""
    for other, recipe in zip(saved[1:], recipes[1:], strict=True):
        difference = first_difference(saved[0].card.language_model, other.card.language_model)
        if difference is not None:
            name, here, there = difference
            differs = "their weights differ" if name == "fingerprint" else f"{name} {there}, not {here}"
            raise AdapterError(
                f"{other.where}: was trained on another language model than {saved[0].where} ({differs}); use it alone"
            )
        for name in ("torch_dtype", "attn_implementation", "quantization"):
            here, there = _held(saved[0], recipes[0], name), _held(other, recipe, name)
            if here != there:
                raise AdapterError(
                    f"{other.where}: was trained with model.{name} {there or 'unset'}, {saved[0].where} with "
                    f"{here or 'unset'}; choose one for both with --model.{name}"
                )


def _held(saved: SavedAdapter, recipe: Recipe, name: str) -> str | None:
    """How an adapter's language model is held: as its settings say, else as it was trained."""
    return getattr(recipe.model, name) or getattr(saved.card.language_model, name, None)


def _shared_out(overrides: Mapping[str, Any], perceived: Sequence[Collection[str]]) -> list[dict[str, Any]]:
    """For each adapter the settings that concern it, by the modalities that it perceives."""
    encoders = overrides.get("model.encoders")
    if isinstance(encoders, Mapping):
        rest = {name: value for name, value in overrides.items() if name != "model.encoders"}
        overrides = {f"model.encoders.{modality}": source for modality, source in encoders.items()} | rest
    shares: list[dict[str, Any]] = [{} for _ in perceived]
    for name, value in overrides.items():
        concerning = {name.split(".")[2]} if name.startswith("model.encoders.") else _OF_MODALITY.get(name)
        concerned = [i for i, modalities in enumerate(perceived) if concerning is None or concerning & set(modalities)]
        if not concerned:
            modalities = " or ".join(sorted(concerning or ()))
            raise ConfigError(f"--{name}: none of the adapters perceives {modalities}; leave it out")
        for i in concerned:
            shares[i][name] = value
    return shares


def _saved_recipe(saved: SavedAdapter, overrides: Mapping[str, Any]) -> Recipe:
    """The settings that a saved adapter answers with; those that it does not keep are the defaults.

    Settings of text that came after it are as everything was before them.
    """
    for name in overrides:
        if not name.startswith(_CHANGEABLE):
            raise ConfigError(f"--{name}: has no effect on an adapter that is trained; leave it out")
    settings = {group: saved.card.metadata[group] for group in SAVED_GROUPS if group in saved.card.metadata}
    if isinstance(text := settings.get("text") or {}, dict):
        settings["text"] = FORMER_TEXT | text
    return build_recipe(settings, overrides, where=saved.where)


def _require_backbones(saved: SavedAdapter, replaced: Collection[str]) -> None:
    """See that the paths are there that an adapter names and nobody replaces."""
    sources = {"language_model": saved.card.language_model.source}
    sources |= {f"encoders.{name}": encoder.source for name, encoder in saved.card.encoders.items()}
    for name, source in sources.items():
        if source is None or name.split(".")[0] in replaced:
            continue
        if Path(source).is_absolute() and not Path(source).exists():
            raise AdapterError(
                f"{saved.where}: was trained on {source}, which is not there; name another place with --model.{name}"
            )
