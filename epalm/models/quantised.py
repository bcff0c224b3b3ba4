"""A frozen language model in fewer bits; what is trained stays float32, and gradients pass through to it.

`int8` needs nothing but torch and works on every device: the linear layers inside the decoder layers keep one int8 a
weight and one scale an output, symmetric, `W = scale * int8`, and are turned into the dtype of their input for the
length of one product. Embeddings, norms and the output embedding stay as they are. `8bit` and `4bit` (NF4) are
bitsandbytes', through transformers' own configuration, where that package and the device allow.

Shapes: x (..., I) -> (..., O); int8 weights (O, I), scales (O,).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers import BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D

from epalm.errors import ConfigError
from epalm.runtime.fingerprint import imprint

Quantization = Literal["none", "int8", "8bit", "4bit"]
OF_BITSANDBYTES = ("8bit", "4bit")
_LARGEST = 127
_PACKS = "support_avx512bf16_for_cpu"
"""What a layer of bitsandbytes packs its weights by."""


class Int8Linear(nn.Module):
    """`x W^T + b` with W in int8, from a linear layer or GPT-2's `Conv1D`.

    Raises:
        ConfigError: the layer's weights are quantised already.
    """

    def __init__(self, linear: nn.Linear | Conv1D) -> None:
        super().__init__()
        weight: Tensor = linear.weight
        bias: Any = linear.bias
        if not weight.is_floating_point() or is_traceable_wrapper_subclass(weight):
            raise ConfigError(
                "model.quantization: the language model is quantised already, by its files or by whoever made it, and "
                "cannot be given int8; leave it out"
            )
        self.imprint = imprint(weight)
        """Of the weight as it was, for `fingerprint`."""
        rows = (weight.T if isinstance(linear, Conv1D) else weight).detach().float()  # (O, I)
        self.scale: Tensor
        self.register_buffer("scale", rows.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / _LARGEST)
        rounded = (rows / self.scale[:, None]).round().clamp(-_LARGEST, _LARGEST).to(torch.int8)
        self.weight = nn.Parameter(rounded.contiguous(), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Input shape: (..., I). Output shape: (..., O), in the dtype of the input."""
        product: Tensor = _Product.apply(x, self.weight, self.scale)
        return product if self.bias is None else product + self.bias

    def extra_repr(self) -> str:
        """What is printed of it."""
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}, bias={self.bias is not None}"


class _Product(torch.autograd.Function):
    """`x W^T`; torch's own would keep the dequantised W of every layer until the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(weight, scale)
        return functional.linear(x, _dequantised(weight, scale, x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        weight, scale = ctx.saved_tensors
        return gradient @ _dequantised(weight, scale, gradient.dtype), None, None


def _dequantised(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.to(dtype).mul_(scale[:, None].to(dtype))


def to_int8(layers: Iterable[nn.Module]) -> None:
    """Put `Int8Linear` in the place of every linear layer in `layers`, one by one, so that memory never holds both."""
    for layer in layers:
        for parent in list(layer.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.Linear | Conv1D):
                    setattr(parent, name, Int8Linear(child))


def quantization_of(language_model: Any) -> Quantization:
    """How a live language model is held."""
    if any(isinstance(module, Int8Linear) for module in language_model.modules()):
        return "int8"
    if getattr(language_model, "is_loaded_in_4bit", False):
        return "4bit"
    return "8bit" if getattr(language_model, "is_loaded_in_8bit", False) else "none"


def let_gradients_through(language_model: nn.Module) -> None:
    """Keep bitsandbytes from packing 4-bit weights for the CPU's bfloat16, which no gradient passes any more.

    It does so at the first pass without gradients, such as a score on the way, of layers in evaluation mode.

    Raises:
        ConfigError: it has done so.
    """
    for module in language_model.modules():
        if hasattr(module, _PACKS):
            if getattr(getattr(module.weight, "quant_state", None), "packing_format_for_cpu", False):
                raise ConfigError(
                    "model.quantization: the live language model's 4-bit weights have been packed for inference; "
                    "load it again"
                )
            setattr(module, _PACKS, False)


def bitsandbytes_config(quantization: Quantization, dtype: torch.dtype) -> BitsAndBytesConfig:
    """The settings in transformers for `8bit` and `4bit`.

    Raises:
        ConfigError: bitsandbytes is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            f"model.quantization: {quantization} needs the package bitsandbytes, which is not installed; "
            'install it (pip install "epalm[quant]"), or choose int8 or none'
        )
    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
