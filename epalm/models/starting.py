"""Where training starts: at new tensors, or at those of saved adapters, one for each modality or one for all.

An adapter that sees and one that hears are joined so to one that does both, and an adapter goes on to other data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from epalm.errors import AdapterError
from epalm.models.adapter_io import TENSOR_FILE, SavedAdapter
from epalm.models.cards import AdapterCard, check_fit


def join_tensors(adapters: Sequence[SavedAdapter], card: AdapterCard, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors to start from: of each name the adapter's that holds it, the mean where several do, else one's own.

    Args:
        adapters: of the same backbones; no two may have a connector for the same modality.
        card: of the model that is to start.
        own: all that it trains, by name.

    Raises:
        AdapterError: an adapter does not fit the backbones or the settings, or two have the same modality.
    """
    by_modality: dict[str, str] = {}
    for saved in adapters:
        check_fit(saved.where, "language model", saved.card.language_model, card.language_model)
        for name, encoder in saved.card.encoders.items():
            if name not in card.encoders:
                raise AdapterError(f"{saved.where}: perceives {name}, and here there is no encoder for it")
            if name in by_modality:
                raise AdapterError(f"{saved.where}: perceives {name}, and so does {by_modality[name]}; leave one out")
            by_modality[name] = saved.where
            check_fit(saved.where, f"{name} encoder", encoder, card.encoders[name])
        for name, tensor in saved.tensors.items():
            if name not in own or own[name].shape != tensor.shape:
                raise AdapterError(
                    f"{saved.where}: {TENSOR_FILE}: there is no place here for tensor '{name}' {list(tensor.shape)}; "
                    "connector, prompt and block adapters must be those that it was trained with"
                )
    return {
        name: _mean([saved.tensors[name] for saved in adapters if name in saved.tensors], own[name]) for name in own
    }


def _mean(tensors: Sequence[Tensor], own: Tensor) -> Tensor:
    return torch.stack(list(tensors)).mean(0) if tensors else own
