"""The search space: Hydra's override grammar read as Optuna distributions, and back again."""

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Transformer
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from pipeline.common.errors import ConfigError, did_you_mean, listing
from pipeline.config.compose import literal, plain_errors
from pipeline.search.space.filters import Filter

Params = dict[str, Any]

DRAWS = 10_000  # points drawn at random before a filter is said to leave nothing
PROBE_DRAWS = 1_000  # likewise for one value; a value that no point may have is not checked
MOST_FILTERED = 100_000  # points that a filtered grid may have before the filter: all are looked at


@dataclass(frozen=True)
class Condition:
    """A choice that opens further keys."""

    key: str
    values: tuple[str, ...]  # any of them opens

    def __str__(self) -> str:
        return f"{self.key} is {' or '.join(self.values)}"

    def holds(self, settings: Mapping[str, Any]) -> bool:
        """Whether a point with these values has made the choice."""
        return self.key in settings and text_of(settings[self.key]) in self.values


@dataclass(frozen=True)
class Dimension:
    """One searched key, or several whose values go together."""

    key: str  # the parameter's name: the override's key without + or ++
    override_key: str  # with them
    distribution: BaseDistribution
    when: Condition | None = None  # None: searched in every trial
    # Of keys that go together: what each choice sets, by the override's key.
    pairs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The keys of the config that it sets."""
        named = next(iter(self.pairs.values())) if self.pairs else (self.override_key,)
        return tuple(key.lstrip("+~") for key in named)

    def settings(self, value: Any) -> dict[str, Any]:
        """Return what a value sets, by the keys of the config."""
        if self.pairs:
            return dict(zip(self.keys, self.pairs[value].values(), strict=True))
        return {self.keys[0]: plain(value)}

    def overrides(self, value: Any) -> list[str]:
        """Return the overrides that set a value."""
        if self.pairs:
            return [f"{key}={literal(one)}" for key, one in self.pairs[value].items()]
        return [f"{self.override_key}={encode(value)}"]

    def is_open(self, settings: Mapping[str, Any]) -> bool:
        """Whether a point with these values has this parameter."""
        return self.when is None or self.when.holds(settings)

    def match(self, given: Mapping[str, Any]) -> Any:
        """Return the value that sets what is given of this dimension's keys.

        Raises:
            ValueError: where it has no such value.
        """
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            for choice in d.choices:
                settings = self.settings(choice)
                if all(_same(settings[key], value) for key, value in given.items()):
                    return choice
        else:
            (value,) = given.values()
            if isinstance(value, int | float) and not isinstance(value, bool):
                found = _within(d, value)
                if found is not None:
                    return found
        what = ", ".join(f"{key}={encode(value)}" for key, value in given.items())
        raise ValueError(f"{what} is not in its space, {_describe(self)}")

    def draw(self, chance: random.Random) -> Any:
        """Return a value drawn evenly."""
        d, count = self.distribution, self.count()
        if isinstance(d, CategoricalDistribution):
            return chance.choice(d.choices)
        assert isinstance(d, IntDistribution | FloatDistribution)
        if count is not None:
            return self.nth(chance.randrange(count))
        scale, back = (math.log, math.exp) if d.log else (float, float)
        value = min(max(back(chance.uniform(scale(d.low), scale(d.high))), d.low), d.high)
        return round(value) if isinstance(d, IntDistribution) else value

    def nth(self, place: int) -> Any:
        """Return the value at a place of a range that has finitely many."""
        d = self.distribution
        if isinstance(d, IntDistribution):
            return d.low + place * d.step
        assert isinstance(d, FloatDistribution)
        assert d.step is not None
        # Rounded to the digits of the step, so that 0.1 + 2 × 0.1 is 0.3.
        return round(d.low + place * d.step, max(0, 12 - math.floor(math.log10(d.step))))

    def count(self) -> int | None:
        """Return how many values there are, or None where they are infinitely many."""
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return len(d.choices)
        if isinstance(d, IntDistribution) and not d.log:
            return (d.high - d.low) // d.step + 1
        if isinstance(d, FloatDistribution) and d.step is not None:
            return round((d.high - d.low) / d.step) + 1
        return None

    def grid(self) -> Sequence[Any]:
        """Return every value in order; there must be finitely many."""
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return d.choices
        if isinstance(d, IntDistribution):
            return range(d.low, d.high + 1, d.step)
        return [self.nth(place) for place in range(self.count() or 0)]

    def extremes(self) -> list[Any]:
        """Return the values to check before the search: every choice, or both ends of a range."""
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return list(d.choices)
        assert isinstance(d, IntDistribution | FloatDistribution)
        return [d.low, d.high]


@dataclass(frozen=True)
class Space:
    """The searched keys, and the overrides that stay fixed."""

    dimensions: tuple[Dimension, ...]  # in the order they were given; what opens others before them
    fixed: tuple[str, ...]
    filter: Filter | None = None
    first: tuple[Params, ...] = field(default=(), hash=False)  # points to begin with, also in part

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's view of the space, conditional parameters included."""
        return {d.key: d.distribution for d in self.dimensions}

    @property
    def unconditional(self) -> dict[str, BaseDistribution]:
        """Optuna's view of what every trial has."""
        return {d.key: d.distribution for d in self.dimensions if d.when is None}

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
                f"hydra.sweeper.filter={self.filter.text}: a grid of {size} points before the "
                f"filter; expected at most {MOST_FILTERED}, or the sampler random or tpe."
            )
        return sum(1 for _ in self._points({}))

    def grid(self, chance: random.Random | None = None) -> Iterator[Params]:
        """Yield every point once: the first points, then with the last key changing fastest.

        Args:
            chance: shuffles all but the first points.
        """
        seen: list[Params] = []
        for given in self.first:
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
        """Return the parameters that set what is given.

        Args:
            settings: values by the keys of the config, of a whole point or of a part of one.

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
            raise ValueError(f"{key} is not searched.{did_you_mean(key, known)}")
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
            f"hydra.sweeper.filter={self.filter.text}: it leaves (almost) nothing of the space: "
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
            point = self._complete(given, lambda d: d.draw(chance))
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
        first = self._complete({}, lambda d: d.extremes()[0])
        yield first if self.allows(first) else self.draw({}, "probe")
        for d in self.dimensions:
            opening = self._opening(d)
            for value in d.extremes()[0 if d.when else 1 :]:
                given = {**opening, d.key: value}
                point = self._complete(given, lambda d: d.extremes()[0])
                found = point if self.allows(point) else self.find(given)
                if found is not None:
                    yield found

    def without(self, flat: Mapping[str, Any]) -> dict[str, Any]:
        """Return a flat config without the searched keys and what lies in a searched group."""
        keys = (key for d in self.dimensions for key in d.keys)
        searched = tuple(f"{key.replace('/', '.')}." for key in keys)
        return {key: value for key, value in flat.items() if not f"{key}.".startswith(searched)}

    def describe(self) -> dict[str, str]:
        """Return each key's space in a line, then what else makes this space."""
        lines: dict[str, list[str]] = {}
        for d in self.dimensions:
            where = f" where {d.when}" if d.when else ""
            for key in d.keys:
                lines.setdefault(key, []).append(_describe(d, key) + where)
        described = {key: "; ".join(parts) for key, parts in lines.items()}
        if self.filter is not None:
            described["filter"] = self.filter.text
        if self.first:
            points = [
                " ".join(f"{key}={encode(value)}" for key, value in self.settings(point).items())
                for point in self.first
            ]
            described["first"] = "; ".join(points)
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

    def _complete(self, given: Mapping[str, Any], pick: Callable[[Dimension], Any]) -> Params:
        """Return a point with what is given of it and counts there, the rest picked."""
        point: Params = {}
        for d in self.dimensions:
            if d.is_open(self.settings(point)):
                point[d.key] = given[d.key] if d.key in given else pick(d)
        return point

    def _opening(self, dimension: Dimension) -> Params:
        """Return the choices that open a dimension."""
        when = dimension.when
        if when is None:
            return {}
        for d in self.dimensions:
            for value in d.extremes() if when.key in d.keys else ():
                if when.holds(d.settings(value)):
                    return {**self._opening(d), d.key: value}
        raise AssertionError(f"nothing sets {when}")


def parse_space(overrides: Sequence[str], config_loader: Any = None) -> Space:
    """Read overrides, sweeping ones and fixed ones; of two for the same key the later counts.

    Args:
        overrides: in Hydra's grammar: ``a=1,2``, ``a=choice(x,y)``, ``a=range(1,4)`` (1, 2, 3 for
            every sampler), ``a=interval(0,1)``, ``a=tag(log,interval(1e-5,1e-3))``, ``b=3``.
        config_loader: Hydra's, for ``glob``.

    Raises:
        ConfigError: for what the grammar does not know, and for empty or inverted ranges.
    """
    with plain_errors():
        parsed = OverridesParser.create(config_loader=config_loader).parse_overrides(
            list(overrides)
        )
    latest = {_name(override): override for override in parsed}
    dimensions = tuple(
        Dimension(key, override.get_key_element(), _distribution(key, override))
        for key, override in latest.items()
        if override.is_sweep_override()
    )
    fixed = tuple(o.input_line or "" for o in latest.values() if not o.is_sweep_override())
    return Space(dimensions, fixed)


def encode(value: Any) -> str:
    """Return a parameter's value as an override writes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def plain(value: Any) -> Any:
    """Return what a parameter's value means: texts without the grammar's quotes, null as None."""
    if not isinstance(value, str) or value == "null":
        return None if value == "null" else value
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1].replace(f"\\{value[0]}", value[0]).replace("\\\\", "\\")
    return value


def text_of(value: Any) -> str:
    """Return a value as people write it, to compare and to show."""
    return encode(plain(value))


def _same(one: Any, other: Any) -> bool:
    numbers = [isinstance(v, int | float) and not isinstance(v, bool) for v in (one, other)]
    return bool(one == other) if all(numbers) else text_of(one) == text_of(other)


def _within(d: BaseDistribution, value: float) -> Any:
    """Return a number as a value of a distribution of numbers, or None where it is not in it."""
    assert isinstance(d, IntDistribution | FloatDistribution)
    whole = isinstance(d, IntDistribution)
    if not d.low <= value <= d.high or (whole and value != int(value)):
        return None
    if d.step is not None:
        place = (value - d.low) / d.step
        if abs(place - round(place)) > 1e-6:
            return None
        value = Dimension("", "", d).nth(round(place))
    return int(value) if whole else float(value)


def _name(override: Override) -> str:
    return override.get_key_element().lstrip("+~")


def _distribution(key: str, override: Override) -> BaseDistribution:
    value = override.value()
    try:
        _check_tags(value)
        if isinstance(value, IntervalSweep):
            return _interval(value)
        if isinstance(value, RangeSweep) and not value.shuffle:
            return _range(value)
        choices = list(override.sweep_iterator(transformer=Transformer.encode))
        # A list or a mapping becomes its text in the grammar: Optuna keeps plain values only.
        plain = [c if isinstance(c, str | int | float | bool | None) else str(c) for c in choices]
        return CategoricalDistribution(_unique(plain))
    except ValueError as error:
        raise ConfigError(f"{override.input_line}: {key}: {error}") from error


def _check_tags(sweep: Any) -> None:
    """Refuse tags that would be ignored: a search is not meant to be another than it looks."""
    ordered = isinstance(sweep, IntervalSweep | RangeSweep)
    for tag in sorted(getattr(sweep, "tags", ())):
        if not ordered:
            raise ValueError(f"the tag {tag} has no meaning for a choice.")
        if tag != "log":
            raise ValueError(f"there is no tag {tag}; expected log.")


def _interval(sweep: IntervalSweep) -> BaseDistribution:
    low, high, log = sweep.start, sweep.end, "log" in sweep.tags
    assert low is not None
    assert high is not None
    if low > high:
        raise ValueError(f"the interval's low end {low} is above its high end {high}.")
    if log and low <= 0:
        raise ValueError(f"a logarithmic interval must begin above 0, found {low}.")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _range(sweep: RangeSweep) -> BaseDistribution:
    """Read ``range(start, stop, step)``: stop is left out, as Hydra has it, for every sampler."""
    assert sweep.start is not None
    assert sweep.stop is not None
    # Decimals: added up as floats, 0.1 + 0.1 + 0.1 would pass 0.3 and bring stop in again.
    start, stop, step = (Decimal(str(v)) for v in (sweep.start, sweep.stop, sweep.step))
    count = math.ceil((stop - start) / step)
    if count < 1:
        raise ValueError(f"range({start}, {stop}, {step}) is empty; expected start before stop.")
    low, high = sorted((start, start + (count - 1) * step))
    log = "log" in sweep.tags
    if all(isinstance(v, int) for v in (sweep.start, sweep.stop, sweep.step)):
        return IntDistribution(int(low), int(high), step=int(abs(step)), log=log)
    if log:
        raise ValueError("a logarithmic range holds whole numbers; use tag(log, interval(…)).")
    return FloatDistribution(float(low), float(high), step=float(abs(step)))


def _unique(values: list[Any]) -> list[Any]:
    """Drop repeated values; 1 and True differ."""
    return list({(type(value), value): value for value in values}.values())


def _describe(dimension: Dimension, key: str | None = None) -> str:
    d = dimension.distribution
    if dimension.pairs and key is not None:
        settings = (dimension.settings(choice) for choice in dimension.pairs)
        values = listing((encode(setting[key]) for setting in settings), most=20)
        return f"{values}, with {listing(k for k in dimension.keys if k != key)}"
    if isinstance(d, CategoricalDistribution):
        return listing((encode(c) for c in d.choices), most=20)
    assert isinstance(d, IntDistribution | FloatDistribution)
    extra = ", logarithmic" if d.log else f", step {d.step}" if d.step is not None else ""
    return f"{d.low:g} to {d.high:g}{extra}"
