"""Numbers that are not finite in training: what they come from, said in one line with what to do about it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from epalm.errors import ConfigError, DataError
from epalm.models import PerceptualLM

_OTHER_DTYPE = "take model.torch_dtype bfloat16 or float32"


def holds_float16(model: PerceptualLM) -> bool:
    """Whether gradients pass through weights in float16, which ends at 65,504."""
    return any(parameter.dtype == torch.float16 for parameter in model.language_model.parameters())


def loss_error(loss: float, step: int, model: PerceptualLM) -> DataError:
    """What to say of a loss that is not finite; features, which are read as finite numbers alone, are not at fault.

    Args:
        loss: of the whole batch.
        step: counts from 1.
        model: as it was when the loss was computed, or a few steps later.
    """
    what = f"training: the loss is {loss} at step {step}"
    for part, module in model.frozen_parts().items():
        if (name := _not_finite(module.named_parameters())) is not None:
            remedy = _OTHER_DTYPE if holds_float16(model) else "fetch or convert it anew"
            return DataError(f"{what}: the {part} holds values that are not finite in {name}; {remedy}")
    if holds_float16(model):
        return DataError(f"{what}: float16 cannot hold what the language model computes; {_OTHER_DTYPE}")
    if step > 1:
        return DataError(f"{what}; lower training.learning_rate")
    if next(model.language_model.parameters()).dtype in (torch.float32, torch.float64):
        return DataError(f"{what}: the language model overflows on this batch; take another, or another adapter.start")
    return DataError(f"{what}; try model.torch_dtype float32")


def gradient_error(step: int, tries: int) -> ConfigError:
    """What to say of a gradient that is beyond float16's range, however little the loss is scaled.

    Args:
        step: counts from 1.
        tries: how often the step was tried.
    """
    return ConfigError(
        f"training: step {step} was tried {tries} times, at loss scales down to 1, and its gradient is beyond the "
        f"range of float16 each time; {_OTHER_DTYPE}"
    )


def require_finite(model: PerceptualLM, step: int) -> None:
    """See that what has been trained can be kept.

    Raises:
        DataError: a trained tensor holds values that are not finite.
    """
    name = _not_finite(model.trained_state_dict().items())
    if name is not None:
        raise DataError(
            f"training: after step {step} {name} holds values that are not finite; lower training.learning_rate"
        )


def _not_finite(tensors: Iterable[tuple[str, Tensor]]) -> str | None:
    """The name of the first that holds such values, of those that can be read."""
    for name, tensor in tensors:
        readable = type(tensor.data) is Tensor and tensor.is_floating_point() and tensor.element_size() > 1
        if readable and not tensor.is_meta and not torch.isfinite(tensor).all():
            return name
    return None
