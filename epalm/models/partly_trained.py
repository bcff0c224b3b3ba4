"""A model of which little is trained: what is trainable follows from which module owns it, and from nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from epalm.models.summary import Summary


class PartlyTrained(nn.Module, ABC):
    """Base of models that say which of their modules are trained and which are frozen.

    Frozen parts never leave evaluation mode, and their parameters never ask for a gradient.
    """

    @abstractmethod
    def trained_parts(self) -> dict[str, nn.Module]:
        """The modules that are trained, by the name of their part; parts without parameters are left out."""

    @abstractmethod
    def frozen_parts(self) -> dict[str, nn.Module]:
        """The frozen backbones, by a name for people."""

    def freeze(self) -> None:
        """Freeze what is frozen; to be called at the end of a subclass's `__init__`."""
        for part in self.frozen_parts().values():
            part.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> PartlyTrained:
        """Set the mode of the trained parts alone."""
        super().train(mode)
        for part in self.frozen_parts().values():
            part.eval()
        return self

    def trained_parameters(self) -> dict[str, list[nn.Parameter]]:
        """The trained parameters, by part: groups for separate learning rates."""
        return {name: list(part.parameters()) for name, part in self.trained_parts().items()}

    def trained_state_dict(self) -> dict[str, Tensor]:
        """All trained tensors and nothing else, by dotted name."""
        parts = self.trained_parts().items()
        return {f"{name}.{key}": tensor for name, part in parts for key, tensor in part.state_dict().items()}

    def load_trained_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Put trained tensors back; within every part names and shapes must match exactly."""
        for name, part in self.trained_parts().items():
            front = f"{name}."
            part.load_state_dict({key[len(front) :]: value for key, value in tensors.items() if key.startswith(front)})

    def summary(self) -> Summary:
        """Trained and frozen parameters, part by part; printing it gives a table. Works on the `meta` device."""
        return Summary.of(self.frozen_parts(), self.trained_parts())
