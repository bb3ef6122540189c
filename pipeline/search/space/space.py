"""The search space: its dimensions, what is fixed, a filter, and its points."""

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from optuna.distributions import BaseDistribution

from pipeline.common.errors import ConfigError, did_you_mean_key
from pipeline.config.compose import key_of
from pipeline.search.space.dimension import Dimension, Params, describe, encode, plain
from pipeline.search.space.filters import Filter

DRAWS = 10_000  # points drawn at random before a filter is said to leave nothing
PROBE_DRAWS = 1_000  # likewise for one value; a value that no point may have is not checked
MOST_FILTERED = 100_000  # points that a filtered grid may have before the filter: all are looked at


@dataclass(frozen=True)
class Space:
    """The searched keys, and the overrides that stay fixed."""

    dimensions: tuple[Dimension, ...]  # in the order they were given; what opens others before them
    fixed: tuple[str, ...]
    filter: Filter | None = None
    first: tuple[Params, ...] = field(default=(), hash=False)  # points to begin with, also in part
    centre: Params = field(default_factory=dict, hash=False)  # the config's own values, for a prior
    elsewhere: frozenset[str] = frozenset()  # keys outside of searched groups that their files set
    history: int | None = None  # how many more former studies are to recommend; 0: as many as suit

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's view of the space, conditional parameters included."""
        return {d.key: d.distribution for d in self.dimensions}

    @property
    def unconditional(self) -> dict[str, BaseDistribution]:
        """Optuna's view of what every trial has."""
        return {d.key: d.distribution for d in self.dimensions if d.when is None}

    @cached_property
    def fixed_keys(self) -> set[str]:
        """The keys that stay fixed."""
        return {key_of(override) for override in self.fixed}

    def own(self, params: Mapping[str, Any]) -> Params:
        """Return those parameters that are this space's."""
        own = self.distributions.keys()
        return {key: value for key, value in params.items() if key in own}

    def opened(self, params: Mapping[str, Any]) -> Dimension | None:
        """Return a dimension that these parameters open and that has no value yet."""
        settings = self.settings(params)
        missing = (d for d in self.dimensions if d.key not in params)
        return next((d for d in missing if d.is_open(settings)), None)

    @property
    def infinite(self) -> list[str]:
        """The keys with infinitely many values."""
        return [d.key for d in self.dimensions if d.count() is None]

    @cached_property
    def size(self) -> int:
        """Points of the grid; every dimension must be finite. Only a filter makes it list them.

        Raises:
            ConfigError: where a filtered grid is too large to be listed.
        """
        size = self._count({}, 0)
        if self.filter is None:
            return size
        if size > MOST_FILTERED:
            raise ConfigError(
                f"{self.filter}: a grid of {size} points before the "
                f"filter; expected at most {MOST_FILTERED}, or the sampler random or tpe."
            )
        return sum(1 for _ in self._points({}))

    def grid(
        self, chance: random.Random | None = None, first: Sequence[Params] = ()
    ) -> Iterator[Params]:
        """Yield every point once: the first ones, then with the last key changing fastest.

        All but the first points, also given in part, are shuffled by ``chance``, if it is given.
        """
        seen: list[Params] = []
        for given in first:
            for point in self._points(given):
                if point not in seen:
                    seen.append(point)
                    yield point
        others = [point for point in self._points({}) if point not in seen]
        if chance is not None:
            chance.shuffle(others)
        yield from others

    def overrides(self, params: Mapping[str, Any]) -> list[str]:
        """Return the command line of a trial: what is fixed, then the trial's parameters."""
        known = {d.key: d for d in self.dimensions}
        own = (
            known[k].overrides(v) if k in known else [f"{k}={encode(v)}"] for k, v in params.items()
        )
        return [*self.fixed, *itertools.chain.from_iterable(own)]

    def settings(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return what parameters set, by the keys of the config; others as they are."""
        settings: dict[str, Any] = {}
        known = {d.key: d for d in self.dimensions}
        for name, value in params.items():
            settings |= known[name].settings(value) if name in known else {name: plain(value)}
        return settings

    def match(self, settings: Mapping[str, Any]) -> Params:
        """Return the parameters that set what is given of a whole point or of a part of one.

        Raises:
            ValueError: naming a key or a value that this space does not have.
        """
        point: Params = {}
        left = dict(settings)
        for d in self.dimensions:
            given = {key: left[key] for key in d.keys if key in left}
            if given and d.is_open(self.settings(point)):
                point[d.key] = d.match(given)
                left = {key: value for key, value in left.items() if key not in given}
        for key in left:
            where = [str(d.when) for d in self.dimensions if key in d.keys]
            if where:
                raise ValueError(f"{key} is searched only where {' or '.join(where)}")
            known = [key for d in self.dimensions for key in d.keys]
            raise ValueError(f"{key} is not searched.{did_you_mean_key(key, known)}")
        return point

    def allows(self, params: Mapping[str, Any], *, partial: bool = False) -> bool:
        """Whether the filter lets a point pass, or any that a part of a point can become."""
        if self.filter is None:
            return True
        settings = self.settings(params)
        open_keys = {key for d in self.dimensions for key in d.keys} if partial else set()
        return self.filter.allows(settings, open_keys - settings.keys())

    def draw(self, given: Mapping[str, Any], seed: str) -> Params:
        """Return a point that the filter lets pass, drawn at random, with what is given of it.

        Where no such point has what is given, it is another.

        Raises:
            ConfigError: where there is none to be found.
        """
        for start in (given, {}):
            point = self.find(start, DRAWS, seed)
            if point is not None:
                return point
        assert self.filter is not None
        raise ConfigError(
            f"{self.filter}: it leaves (almost) nothing of the space: "
            f"of {DRAWS} points drawn at random not one passes."
        )

    def find(
        self, given: Mapping[str, Any], draws: int = PROBE_DRAWS, seed: str = "probe"
    ) -> Params | None:
        """Return a point with what is given that the filter lets pass, or None.

        Points are drawn at random; of a small grid every one is looked at then.
        """
        chance = random.Random(seed)
        for _ in range(draws if self.filter else 1):
            point = self.complete(given, lambda d: d.draw(chance))
            if self.allows(point):
                return point
        if self.infinite or self._count({}, 0) > MOST_FILTERED:
            return None
        return next(self._points(given), None)

    def probes(self) -> Iterator[Params]:
        """Yield a point for each value that must compose, the other keys at their first.

        Where the filter refuses it, another point with that value stands in.

        Raises:
            ConfigError: where the filter leaves nothing.
        """
        first = self.complete({}, lambda d: d.extremes()[0])
        yield first if self.allows(first) else self.draw({}, "probe")
        values = sum(len(d.extremes()) for d in self.dimensions)
        draws = min(PROBE_DRAWS, 1 + DRAWS // max(1, values))
        for d in self.dimensions:
            opening = self.opening(d)
            for value in d.extremes()[0 if d.when else 1 :]:
                given = {**opening, d.key: value}
                point = self.complete(given, lambda d: d.extremes()[0])
                found = point if self.allows(point) else self.find(given, draws)
                if found is not None:
                    yield found

    def without(self, flat: Mapping[str, Any]) -> dict[str, Any]:
        """Return a flat config without the searched keys and what searched groups set."""
        keys = (key for d in self.dimensions for key in d.keys)
        searched = tuple(f"{key.replace('/', '.')}." for key in (*keys, *self.elsewhere))
        return {key: value for key, value in flat.items() if not f"{key}.".startswith(searched)}

    def describe(self) -> dict[str, str]:
        """Return each key's space in a line, then what else makes this space."""
        lines: dict[str, list[str]] = {}
        for d in self.dimensions:
            where = f" where {d.when}" if d.when else ""
            for key in d.keys:
                lines.setdefault(key, []).append(describe(d, key) + where)
        described = {key: "; ".join(parts) for key, parts in lines.items()}
        if self.filter is not None:
            described["filter"] = self.filter.text
        points = [
            " ".join(f"{key}={encode(value)}" for key, value in self.settings(point).items())
            for point in self.first
        ]
        if self.history is not None:
            points.append(f"history ({self.history})" if self.history else "history")
        if points:
            described["first"] = "; ".join(points)
        if self.centre:
            own = self.settings(self.centre)
            described["prior"] = ", ".join(f"{key} around {encode(own[key])}" for key in own)
        return described

    def _points(
        self, given: Mapping[str, Any], chosen: Mapping[str, Any] | None = None, at: int = 0
    ) -> Iterator[Params]:
        """Yield the grid's points that have what is given."""
        chosen = chosen or {}
        if at == len(self.dimensions):
            yield dict(chosen)
            return
        d = self.dimensions[at]
        if not d.is_open(self.settings(chosen)):
            yield from self._points(given, chosen, at + 1)
            return
        for value in [given[d.key]] if d.key in given else d.grid():
            point = {**chosen, d.key: value}
            if self.allows(point, partial=at + 1 < len(self.dimensions)):
                yield from self._points(given, point, at + 1)

    def _count(self, chosen: Mapping[str, Any], at: int) -> int:
        """Count the points from a dimension on, listing the values only of what opens others."""
        if at == len(self.dimensions):
            return 1
        d = self.dimensions[at]
        if not d.is_open(self.settings(chosen)):
            return self._count(chosen, at + 1)
        if not any(other.when and other.when.key in d.keys for other in self.dimensions):
            return (d.count() or 0) * self._count(chosen, at + 1)
        return sum(self._count({**chosen, d.key: value}, at + 1) for value in d.grid())

    def complete(self, given: Mapping[str, Any], pick: Callable[[Dimension], Any]) -> Params:
        """Return a point with what is given of it and counts there, the rest picked."""
        point: Params = {}
        for d in self.dimensions:
            if d.is_open(self.settings(point)):
                point[d.key] = given[d.key] if d.key in given else pick(d)
        return point

    def opening(self, dimension: Dimension) -> Params:
        """Return the choices that open a dimension."""
        when = dimension.when
        if when is None:
            return {}
        for d in self.dimensions:
            for value in d.extremes() if when.key in d.keys else ():
                if when.holds(d.settings(value)):
                    return {**self.opening(d), d.key: value}
        raise AssertionError(f"nothing sets {when}")
