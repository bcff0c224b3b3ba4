"""What is trained and what is frozen, part by part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from epalm.runtime.offloading import parameters_once


@dataclass(frozen=True)
class PartSummary:
    """Parameters of one part of the model."""

    name: str
    trained: int
    frozen: int

    @property
    def share(self) -> float:
        """Trained parameters over all of this part's."""
        return self.trained / (self.trained + self.frozen) if self.trained + self.frozen else 0.0


@dataclass(frozen=True)
class Summary:
    """Parameters of the whole model, part by part; `str()` gives a table."""

    parts: tuple[PartSummary, ...]

    @classmethod
    def of(cls, frozen: Mapping[str, nn.Module], trained: Mapping[str, nn.Module]) -> Summary:
        """Count the parameters of frozen and trained parts; a weight shared inside a part counts once."""
        rows = [PartSummary(name, 0, _count(module)) for name, module in frozen.items()]
        return cls(tuple(rows + [PartSummary(name, _count(module), 0) for name, module in trained.items()]))

    @property
    def trained(self) -> int:
        """Trained parameters."""
        return sum(part.trained for part in self.parts)

    @property
    def frozen(self) -> int:
        """Frozen parameters."""
        return sum(part.frozen for part in self.parts)

    @property
    def share(self) -> float:
        """Trained parameters over all."""
        return PartSummary("total", self.trained, self.frozen).share

    def __str__(self) -> str:
        rows = [*self.parts, PartSummary("total", self.trained, self.frozen)]
        width = max(len("part"), *(len(row.name) for row in rows))
        lines = [f"{'part':<{width}}  {'trained':>13}  {'frozen':>15}  {'share':>9}"]
        lines += [f"{row.name:<{width}}  {row.trained:>13,}  {row.frozen:>15,}  {row.share:>9.4%}" for row in rows]
        return "\n".join(lines)


def _count(module: nn.Module) -> int:
    return sum(_values(parameter) for _, parameter in parameters_once(module))


def _values(parameter: nn.Parameter) -> int:
    """How many values it stands for; bitsandbytes packs two into a byte."""
    packed = getattr(parameter, "quant_state", None)
    return parameter.numel() if packed is None else packed.shape.numel()
