"""Where an encoder's levels come from: its blocks, its own final LayerNorm, and the token that speaks for all.

Nothing is taken from names. The encoder is run once on three small examples, of which the first two are the same, and
is watched: the final norm is the one that receives what the last block gives; where each block ends in a norm of its
own (wav2vec 2.0, HuBERT), there is nothing left to norm. A [CLS] token is one that enters the first block the same
whatever is perceived, as do registers and a distillation token. So an encoder is either understood for certain or
refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Literal

import torch
from torch import Tensor, nn

from epalm.errors import UnsupportedModelError, is_out_of_memory

Summary = Literal["cls", "mean", "pooled"]
_ROUNDED = 0.02
"""Share by which rounding to 16 bits may move what is the same; what differs there differs by its whole size."""
_EXACTLY = 1e-6
"""Share by which what was computed twice from the same may differ."""


@dataclass(frozen=True)
class Anatomy:
    """What `PerceptualEncoder` needs to know of its backbone. Holds the backbone's own modules, and owns none."""

    blocks: tuple[nn.Module, ...]
    """The transformer blocks, shallow to deep; each gives tokens (B, S, E)."""
    norm: nn.Module
    """The encoder's own final norm, over E; an identity where every block ends in one."""
    summary: Summary
    """`cls`: norm of token 0; `mean`: mean of the normed tokens; `pooled`: norm of the mean, as the encoder itself
    does it (BEiT with mean pooling, whose last block was never trained to put anything into its CLS token)."""
    skip: int
    """With `pooled`: leading tokens left out of the mean; 1 where there is a CLS token."""
    width: int
    """E."""
    tokens: int
    """S, of each of the examples."""
    special: int
    """Tokens in front that stand for no place: [CLS], registers, a distillation token."""


@dataclass
class _Trace:
    """What one run shows."""

    entering: Any = None  # the input (3, S, E) of the first block
    leaving: list[Any] = field(default_factory=list)  # the output (3, S, E) of each block
    normed: list[tuple[nn.Module, Tensor]] = field(default_factory=list)  # norms called after the last block
    ending: list[Tensor] = field(default_factory=list)  # what the norms inside the last block give


def examine(
    backbone: nn.Module,
    examples: Callable[[], Mapping[str, Tensor]],
    name: str,
    *,
    blocks: tuple[nn.Module, ...] | None = None,
    norm_required: bool = True,
) -> Anatomy:
    """Find out how to read `backbone`.

    Args:
        backbone: a frozen Hugging Face model in evaluation mode. On the meta device shapes alone are compared.
        examples: gives its inputs for three examples (3, ...), the first two equal, the third different in every part.
        name: what to call the encoder in a message.
        blocks: the blocks to read; by default the outermost stack of equal ones.
        norm_required: refuse a backbone without a final norm; else its blocks are read as they are.

    Raises:
        UnsupportedModelError: the backbone has no stack of equal blocks that give tokens of one width, no final norm,
            does not accept the inputs, or does not give the same twice.
    """
    blocks = blocks or _find_blocks(backbone, name)
    trace = _watch(backbone, blocks, examples(), name)
    states = [trace.entering, *trace.leaving]
    if len(states) != 1 + len(blocks) or not all(map(_is_tokens, states)):
        raise UnsupportedModelError(f"{name}: its blocks do not pass tokens (B, S, E) on; it cannot be used")
    if len({state.shape for state in states}) != 1:
        raise UnsupportedModelError(f"{name}: its levels differ in shape; hierarchical encoders cannot be used")
    first, last = states[0], states[-1]  # (3, S, E)
    if not last.is_meta and not last.isfinite().all():
        raise UnsupportedModelError(f"{name}: gives features that are not finite numbers in {last.dtype}")
    if not _close(last[0], last[1]):
        raise UnsupportedModelError(
            f"{name}: gives different features for the same input each time; it cannot be used frozen"
        )
    special = _count_special(first)
    norm, summary, skip = _find_norm(trace, last, "cls" if special else "mean", name, norm_required)
    return Anatomy(blocks, norm, summary, skip, width=last.shape[-1], tokens=last.shape[1], special=special)


def first_output(output: Any) -> Any:
    """The hidden states of a block that returns them alone or first in a tuple."""
    return output[0] if isinstance(output, tuple) else output


def _find_blocks(backbone: nn.Module, name: str) -> tuple[nn.Module, ...]:
    """The outermost stack of `num_hidden_layers` modules of one class."""
    depth = getattr(getattr(backbone, "config", None), "num_hidden_layers", None)
    for stack in backbone.modules():  # outer modules come before those inside them
        if isinstance(stack, nn.ModuleList) and len(stack) == depth and len({type(block) for block in stack}) == 1:
            return tuple(stack)
    raise UnsupportedModelError(
        f"{name}: {type(backbone).__name__} has no stack of equal blocks, `num_hidden_layers` ({depth}) deep, to read"
    )


@torch.no_grad()
def _watch(backbone: nn.Module, blocks: tuple[nn.Module, ...], inputs: Mapping[str, Tensor], name: str) -> _Trace:
    trace = _Trace()
    inside = {id(module) for block in blocks for module in block.modules()}
    norms = [module for module in backbone.modules() if _is_norm(module) and id(module) not in inside]

    def enter(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        trace.entering = args[0] if args else kwargs.get("hidden_states")

    def leave(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        trace.leaving.append(first_output(output))

    def norm(module: nn.Module, args: tuple[Any, ...]) -> None:
        if len(trace.leaving) == len(blocks) and args:
            trace.normed.append((module, args[0]))

    def end(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        trace.ending.append(output)

    hooks = [blocks[0].register_forward_pre_hook(enter, with_kwargs=True)]
    hooks += [block.register_forward_hook(leave) for block in blocks]
    hooks += [module.register_forward_pre_hook(norm) for module in norms]
    hooks += [module.register_forward_hook(end) for module in blocks[-1].modules() if _is_norm(module)]
    try:
        backbone(**inputs)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        # Whatever else a foreign model says of inputs that it was not made for, it is this model that cannot be served.
        shapes = ", ".join(f"{key} {tuple(value.shape)}" for key, value in inputs.items())
        reason = " ".join(str(error).split())
        raise UnsupportedModelError(f"{name}: does not accept {shapes}: {reason}") from None
    finally:
        for hook in hooks:
            hook.remove()
    return trace


def _find_norm(
    trace: _Trace, last: Tensor, summary: Summary, name: str, required: bool
) -> tuple[nn.Module, Summary, int]:
    """The norm that is given the last block's tokens (3, S, E), one of them, or their mean (3, E)."""
    for norm, entering in trace.normed:
        if _close(entering, last):
            return norm, summary, 0
        if _close(entering, last[:, 0]):
            return norm, "cls", 0
        for start in (0, 1):
            if _close(entering, last[:, start:].mean(dim=1)):
                return norm, "pooled", start
    if not required or (trace.ending and _close(trace.ending[-1], last)):
        return nn.Identity(), summary, 0
    raise UnsupportedModelError(f"{name}: no final norm is applied to what its last block gives")


def _count_special(first: Tensor) -> int:
    """Leading tokens of (3, S, E) that are the same whatever is perceived; on the meta device 1, as most encoders have.

    Large positions can make any first tokens nearly alike, so they must agree to the last bits.
    """
    if first.is_meta:
        return 1
    alike = (_close(one, other, within=_EXACTLY) for one, other in zip(first[0], first[2], strict=True))
    return sum(1 for _ in takewhile(bool, alike))


def _is_norm(module: nn.Module) -> bool:
    return type(module).__name__.endswith("Norm")


def _is_tokens(state: Any) -> bool:
    return isinstance(state, Tensor) and state.dim() == 3 and state.shape[0] == 3


def _close(first: Tensor, second: Tensor, within: float = _ROUNDED) -> bool:
    """Equal up to a share of their size."""
    if first.shape != second.shape or first.is_meta:
        return first.shape == second.shape
    return bool((first.float() - second.float()).norm() <= within * first.float().norm())
