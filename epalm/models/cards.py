"""What an adapter says of itself: the contents of `adapter_config.json`, and the model card for people.

A card describes the frozen backbones well enough to notice any other: architecture, sizes and a fingerprint of the
weights.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from epalm.encoders import LongSounds, PerceptualEncoder, Statistics
from epalm.errors import AdapterError
from epalm.models.anatomy import Anatomy
from epalm.models.quantised import OF_BITSANDBYTES, Quantization, quantization_of
from epalm.runtime.fingerprint import fingerprint
from epalm.settings import AdapterConfig, Settings

FORMAT = 1
"""Version of the layout of `adapter_config.json`."""
_NOT_OF_THE_WEIGHTS = (
    "source", "decoder_layers", "frames", "long_sounds", "quantization", "statistics", "features_by"
)  # fmt: skip


class LanguageModelCard(Settings):
    """The language model an adapter belongs to."""

    source: str | None
    """Hub id, directory or toy backbone; none for a live model that came from nowhere."""
    family: str
    """As transformers names it."""
    layers: int
    """L."""
    decoder_layers: str | None
    """Where they are, if that had to be said."""
    width: int
    """D."""
    embedding_width: int
    """W."""
    vocabulary: int
    """Rows of the output embedding."""
    fingerprint: str | None
    """Of the weights; none where they could not be read (the `meta` device, bitsandbytes, torchao), of which the
    model card tells."""
    quantization: Quantization = "none"
    """How it was held."""

    @classmethod
    def of(
        cls, model: PreTrainedModel, anatomy: Anatomy, source: str | None, decoder_layers: str | None
    ) -> LanguageModelCard:
        """Describe a live language model."""
        quantization = quantization_of(model)
        return cls(
            source=source,
            family=anatomy.family,
            layers=len(anatomy.layers),
            decoder_layers=decoder_layers,
            width=anatomy.width,
            embedding_width=anatomy.embedding_width,
            vocabulary=anatomy.vocabulary,
            fingerprint=None if quantization in OF_BITSANDBYTES else fingerprint(model),
            quantization=quantization,
        )


class EncoderCard(Settings):
    """An encoder an adapter belongs to."""

    source: str | None
    """Hub id, directory or toy backbone; none for a live model that came from nowhere, and for ready features."""
    family: str | None
    """As transformers names it; none for ready features."""
    width: int
    """E."""
    levels: int | None
    """Blocks the encoder has; unknown for ready features."""
    used_levels: int
    """K, the last of them that are tapped."""
    fingerprint: str | None
    """Of the weights; none for ready features."""
    frames: int | None = None
    """Frames of a clip, of what perceives clips."""
    long_sounds: LongSounds | None = None
    """What is perceived of sounds longer than the window, of what perceives sounds."""
    statistics: Statistics | None = None
    """By whose mean and spread pixels are normalised, where not by the encoder's own."""
    features_by: str | None = None
    """What made ready features, as far as that is known; none where an encoder was at hand."""
    tokens: int | None = None
    """Of ready features of every token, how many tokens there are, at most."""
    special_tokens: int | None = None
    """Of ready features of every token, how many tokens there are before those of patches or frames."""
    grid: tuple[int, int] | None = None
    """Of ready features of every token, rows and columns of the patches."""

    @classmethod
    def of(cls, encoder: PerceptualEncoder, used_levels: int) -> EncoderCard:
        """Describe a live encoder."""
        return cls(
            source=encoder.source,
            family=getattr(getattr(encoder.backbone, "config", None), "model_type", None),
            width=encoder.width,
            levels=encoder.levels,
            used_levels=used_levels,
            fingerprint=fingerprint(encoder.backbone),
            frames=getattr(encoder, "frames", None),
            long_sounds=getattr(encoder, "long_sounds", None),
            statistics="clip" if encoder.statistics == "clip" else None,
        )

    @classmethod
    def of_ready_features(cls, width: int, levels: int | None, used_levels: int) -> EncoderCard:
        """Describe features that come from outside."""
        return cls(source=None, family=None, width=width, levels=levels, used_levels=used_levels, fingerprint=None)


class AdapterCard(Settings):
    """All of `adapter_config.json`."""

    format: int
    """Version of this layout."""
    epalm_version: str
    """Version of the package that wrote it."""
    adapter: AdapterConfig
    """The settings, with the window and the levels written out."""
    language_model: LanguageModelCard
    """The frozen language model."""
    encoders: dict[str, EncoderCard]
    """The frozen encoders, by modality."""
    trained_parameters: int
    """How many values `adapter_model.safetensors` holds."""
    trained_share: float
    """Their share of all parameters of the model."""
    metadata: dict[str, Any]
    """Whatever else whoever trained the adapter wants to keep: tasks, templates, scores."""

    def reading(
        self,
        frames: int | None = None,
        long_sounds: LongSounds | None = None,
        statistics: Statistics | None = None,
    ) -> dict[str, Any]:
        """How encoders read files: as is said here, else as in training."""
        video, audio = self.encoders.get("video"), self.encoders.get("audio")
        return {
            "frames": frames or (video.frames if video else None),
            "long_sounds": long_sounds or (audio.long_sounds if audio else None),
            "statistics": statistics
            or next((each.statistics for each in self.encoders.values() if each.statistics), None),
        }


def new_card(**fields: Any) -> AdapterCard:
    """The card of an adapter that is about to be written by this version of the package."""
    try:
        written_by = version("epalm")
    except PackageNotFoundError:
        written_by = "unknown"
    return AdapterCard(format=FORMAT, epalm_version=written_by, **fields)


def check_fit(where: str, part: str, saved: Settings, loaded: Settings) -> None:
    """See that a backbone is the one an adapter was trained on; what either side does not know is not compared.

    Raises:
        AdapterError: it is another; the first difference is named.
    """
    difference = first_difference(saved, loaded)
    if difference is None:
        return
    name, expected, actual = difference
    if name == "fingerprint":
        article = "an" if part[0] in "aeiou" else "a"
        raise AdapterError(
            f"{where}: trained on {article} {part} with other weights (the fingerprints differ); name that one"
        )
    raise AdapterError(f"{where}: does not fit the {part}: {name} is {actual}, the adapter was trained on {expected}")


def first_difference(first: Settings, second: Settings) -> tuple[str, Any, Any] | None:
    """What two cards of backbones first differ in, and how, if they describe different weights."""
    for name in type(first).model_fields:
        values = getattr(first, name), getattr(second, name)
        if name not in _NOT_OF_THE_WEIGHTS and None not in values and values[0] != values[1]:
            return name, *values
    return None


def model_card(card: AdapterCard) -> str:
    """The README.md of an adapter, with the front matter that the Hugging Face Hub reads."""
    backbones = [card.language_model.source, *(encoder.source for encoder in card.encoders.values())]
    sources = [source for source in backbones if source]
    modalities = sorted(card.encoders)
    front = ["---", "library_name: epalm", "tags:", "- epalm", *(f"- {modality}" for modality in modalities)]
    hub_ids = [name for name in sources if name.count("/") == 1 and not Path(name).exists() and name[0] not in "./~"]
    hub_ids = [name for name in hub_ids if not name.startswith("toyworld/")]
    if hub_ids:
        front += ["base_model:", *(f"- {name}" for name in hub_ids)]
    adapter = card.adapter
    lm, quantization = card.language_model, card.language_model.quantization
    rows = [("language model", (lm.source or lm.family) + ("" if quantization == "none" else f", in {quantization}"))]
    rows += [
        (f"{name} encoder", encoder.source or _features_source(encoder) or encoder.family or "-")
        for name, encoder in card.encoders.items()
    ]
    if lm.fingerprint is None:
        rows.append(("fingerprint", "none: nobody can tell whether a language model has the weights it was trained on"))
    rows.append(("preset", adapter.preset))
    if adapter.start is not None:
        rows.append(("window", f"layers {adapter.start} to {adapter.end} of {card.language_model.layers}"))
    rows += [
        ("soft prompt", "none" if adapter.prompt == "none" else f"{adapter.prompt}, P = {adapter.prompt_tokens}"),
        ("trained parameters", f"{card.trained_parameters:,} ({card.trained_share:.4%})"),
        ("epalm version", card.epalm_version),
    ]
    return "\n".join(
        [
            *front,
            "---",
            "",
            "# Perception for a frozen language model",
            "",
            "An [eP-ALM](https://arxiv.org/abs/2303.11403) adapter: the few trained weights that give a frozen",
            f"language model perception ({', '.join(modalities) or 'none: the blind floor'}). The backbones are not in",
            "here; they are loaded by name.",
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in rows),
            "",
            "```python",
            "from epalm import PerceptualLM",
            "",
            'model = PerceptualLM.from_pretrained("this/adapter")',
            "```",
            "",
        ]
    )


def _features_source(encoder: EncoderCard) -> str | None:
    return encoder.features_by and f"ready features of {encoder.features_by}"
