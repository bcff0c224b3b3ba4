"""A frozen language model of which every process holds a part: its decoder layers, by torch's own FSDP.

A layer is put together from all processes on the way into it, forwards and backwards, and taken apart behind it, so
that a device holds its share of all layers and a layer or two as a whole. A layer that runs is whole, so the hooks
that bring perception need not know. The embeddings, which are read outside the language model's own forward as well,
and whatever else is not in a layer stay whole in every process, and so does all that is trained.

Nobody may run a layer alone: every process must call the language model as often as all others do.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers import PreTrainedModel

from epalm.errors import ConfigError
from epalm.models.quantised import OF_BITSANDBYTES, Quantization
from epalm.runtime.fingerprint import remember_fingerprint
from epalm.runtime.processes import processes


def require_shardable(quantization: Quantization | None) -> None:
    """See that a language model so held can be sharded here, before it is loaded.

    Raises:
        ConfigError: it cannot, or there is one process only.
    """
    if quantization in OF_BITSANDBYTES:
        raise ConfigError(f"model.shard: a language model in {quantization} cannot be sharded; choose int8 or none")
    if processes().num_processes == 1:
        raise ConfigError(
            "model.shard: shards the language model over several processes, and there is one; start several with "
            "accelerate launch or torchrun, or leave it out"
        )


def shard_layers(language_model: PreTrainedModel, layers: Sequence[nn.Module], device: torch.device) -> None:
    """Leave this process its share of the layers, on `device`; every process must call this.

    Args:
        language_model: frozen and whole, in main memory where it does not fit `device`.
        layers: its decoder layers.
        device: where it runs; each process has its own, of one kind.

    Raises:
        ConfigError: its files, or whoever made it, quantised it by torchao.
    """
    if any(is_traceable_wrapper_subclass(parameter) for layer in layers for parameter in layer.parameters()):
        raise ConfigError("model.shard: a language model that torchao quantised cannot be sharded; take another")
    remember_fingerprint(language_model)
    mesh = init_device_mesh(device.type, (processes().num_processes,))
    in_layers = {parameter for layer in layers for parameter in layer.parameters()}
    whole = set(language_model.parameters()) - in_layers
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    # With nothing of its own to share, it has the layers fetch each other in time.
    fully_shard(language_model, mesh=mesh, ignored_params=whole)
    language_model.to(device)


def is_sharded(language_model: nn.Module) -> bool:
    """Whether a live language model is sharded."""
    return isinstance(language_model, FSDPModule)
