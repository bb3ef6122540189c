"""What a process keeps so that its runs share it: one home, emptied by one call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# Of each function its name, how many results are kept at most, and those by their arguments.
Travelling = Sequence[tuple[str, int | None, Mapping[Hashable, Any]]]


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

    def travelling(self) -> Travelling:
        """Return the results that a child is given, to be taken there."""
        every = [one for one in list(self._kept.values()) if isinstance(one, _Results)]
        return [(one.name, one.most, one.copy()) for one in every if one.travel]

    def take(self, results: Travelling) -> None:
        """Keep the results that another process had, as if they had been computed here."""
        for name, most, known in results:
            self._kept[name] = _Results(name, most, known, travel=True)


class _Results:
    """A function's results by its arguments, those asked for last at the end."""

    def __init__(
        self,
        name: str,
        most: int | None,
        known: Mapping[Hashable, Any] | None = None,
        *,
        travel: bool,
    ) -> None:
        self.name, self.most, self.travel = name, most, travel
        self._by_key = dict(known or {})
        self._lock = threading.Lock()

    def copy(self) -> dict[Hashable, Any]:
        with self._lock:
            return dict(self._by_key)

    def of(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """Return the result that is kept under a key; compute it where none is."""
        with self._lock:
            if key in self._by_key:
                self._by_key[key] = self._by_key.pop(key)
                return self._by_key[key]
        result = compute()  # which may ask for others
        with self._lock:
            self._by_key[key] = result
            if self.most is not None and len(self._by_key) > self.most:
                del self._by_key[next(iter(self._by_key))]
        return result


_SESSION = Session()


def session() -> Session:
    """Return the session of this process."""
    return _SESSION


def shared(
    maxsize: int | None, *, travel: bool = False
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorate a function: the session keeps its results for the last arguments, or all (None).

    Those that travel are given to every child that is forked: for what takes long to compute, and
    can be pickled.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        name = f"{function.__module__}.{function.__qualname__}"

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            place = name if travel else call  # which another process knows by its name
            results = session().kept(place, lambda: _Results(name, maxsize, travel=travel))
            key = (args, tuple(sorted(kwargs.items())))
            value: T = results.of(key, lambda: function(*args, **kwargs))
            return value

        return call

    return decorate
