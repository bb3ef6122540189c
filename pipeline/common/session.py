"""What a process keeps so that its runs share it: one home, emptied by one call."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Session:
    """Holds the caches and counters of a process, each made when it is first asked for."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Any] = {}

    def kept(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is kept under a key; make it where nothing is."""
        if key not in self._kept:
            self._kept[key] = make()
        value: T = self._kept[key]
        return value

    def clear(self) -> None:
        """Forget everything, as in a fresh process."""
        self._kept.clear()


_SESSION = Session()


def session() -> Session:
    """Return the session of this process."""
    return _SESSION


def shared(maxsize: int | None) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorate a function: the session keeps its results for the last arguments, or all (None)."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            cached = session().kept(call, lambda: lru_cache(maxsize)(function))
            return cached(*args, **kwargs)  # type: ignore[arg-type]

        return call

    return decorate
