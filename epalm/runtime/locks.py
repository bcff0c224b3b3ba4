"""One thread at a time: a lock for every frozen backbone, tokenizer or processor, whoever uses it.

While a backbone runs, hooks on it bring perception in or read its levels, and what they do is one call's alone;
tokenizers and processors, too, keep what one call has set. A second thread must wait, be it by the same model or by
another one that shares them. The lock is re-entrant, and it is kept beside its object and not in it, so that a live
model can be copied and pickled. A forked process begins with new locks: nobody there would release what other threads
of its parent held.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar
from weakref import WeakKeyDictionary

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_LOCKS: WeakKeyDictionary[Any, AbstractContextManager[Any]] = WeakKeyDictionary()
_LOOKING_UP = threading.Lock()


class _HasLanguageModel(Protocol):
    language_model: Any


_Owner = TypeVar("_Owner", bound=_HasLanguageModel)


def lock_of(owner: Any) -> AbstractContextManager[Any]:
    """The lock of a backbone, tokenizer or processor; inside it other threads that ask for it wait."""
    with _LOOKING_UP:
        return _LOCKS.setdefault(owner, threading.RLock())


def _forget_locks() -> None:
    global _LOCKS, _LOOKING_UP
    _LOCKS, _LOOKING_UP = WeakKeyDictionary(), threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_forget_locks)


def one_thread_at_a_time(
    method: Callable[Concatenate[_Owner, _Arguments], _Result],
) -> Callable[Concatenate[_Owner, _Arguments], _Result]:
    """Hold the lock of `self.language_model` while a method runs."""

    @wraps(method)
    def locked(self: _Owner, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        with lock_of(self.language_model):
            return method(self, *args, **kwargs)

    return locked
