"""What a process keeps so that its runs share it: one home, emptied by one call."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_NOTHING: Any = object()


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

    def travelling(self) -> Mapping[Hashable, Any]:
        """Return the results that a child is given, to be taken there."""
        results = {key: kept for key, kept in self._kept.items() if isinstance(kept, _Results)}
        return {key: kept for key, kept in results.items() if kept.travel}

    def take(self, results: Mapping[Hashable, Any]) -> None:
        """Keep the results that another process had, as if they had been computed here."""
        self._kept.update(results)


class _Results(dict[Hashable, Any]):
    """A function's results by its arguments, the latest at the end."""

    travel = False


_SESSION = Session()


def session() -> Session:
    """Return the session of this process."""
    return _SESSION


def shared(
    maxsize: int | None, *, travel: bool = False
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorate a function: the session keeps its latest results, so many or all (None).

    Those that travel are given to every child that is forked: for what takes long to compute, and
    can be pickled.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        name = f"{function.__module__}.{function.__qualname__}"  # the same in every process

        def make() -> _Results:
            results = _Results()
            results.travel = travel
            return results

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            results = session().kept(name, make)
            key = (args, tuple(sorted(kwargs.items())))
            value: T = results.get(key, _NOTHING)
            if value is _NOTHING:
                value = results[key] = function(*args, **kwargs)
                if maxsize is not None and len(results) > maxsize:
                    del results[next(iter(results))]
            return value

        return call

    return decorate
