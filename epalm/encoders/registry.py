"""Which class serves which encoder: one decorator on the class is the only line a new family needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from epalm.encoders.base import PerceptualEncoder

EncoderT = TypeVar("EncoderT", bound="type[PerceptualEncoder]")

_FAMILIES: dict[str, type[PerceptualEncoder]] = {}


def register_encoder(*keys: str) -> Callable[[EncoderT], EncoderT]:
    """Let the decorated class serve the Hugging Face model types, or all models of an input modality, in `keys`."""

    def enter(cls: EncoderT) -> EncoderT:
        for key in keys:
            _FAMILIES[key] = cls
        return cls

    return enter


def find_encoder(model_type: str, modalities: tuple[str, ...]) -> type[PerceptualEncoder] | None:
    """The class registered for the model type, else for the input modality where there is one alone, else None."""
    if model_type in _FAMILIES:
        return _FAMILIES[model_type]
    return _FAMILIES.get(modalities[0]) if len(modalities) == 1 else None
