"""Mechanisms by their names in the settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from epalm.errors import ConfigError
from epalm.models.mechanisms.base import Mechanism
from epalm.settings.nearest import nearest

MechanismT = TypeVar("MechanismT", bound=type[Mechanism])
_MECHANISMS: dict[str, type[Mechanism]] = {}


def register_mechanism(name: str) -> Callable[[MechanismT], MechanismT]:
    """Have a class of mechanism be found by a name, `adapter.mechanism`."""

    def register(kind: MechanismT) -> MechanismT:
        _MECHANISMS[name] = kind
        return kind

    return register


def mechanism_named(name: str) -> type[Mechanism]:
    """The class of that name.

    Raises:
        ConfigError: there is none; the nearest name is given.
    """
    if name not in _MECHANISMS:
        raise ConfigError(f"adapter.mechanism: there is no '{name}'{nearest(name, _MECHANISMS)}")
    return _MECHANISMS[name]


def mechanism_names() -> tuple[str, ...]:
    """All names."""
    return tuple(sorted(_MECHANISMS))
