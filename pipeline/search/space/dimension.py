"""One thing that is searched: a key, or several whose values go together, and its values."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from pipeline.common.errors import listing
from pipeline.common.text import cut
from pipeline.config.compose import literal

Params = dict[str, Any]
Distribution = CategoricalDistribution | FloatDistribution | IntDistribution


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
    distribution: Distribution
    when: Condition | None = None  # None: searched in every trial
    # Of keys that go together: what each choice sets, by the override's key.
    pairs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The keys of the overrides that set it."""
        return tuple(next(iter(self.pairs.values()))) if self.pairs else (self.override_key,)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The keys of the config that it sets."""
        return tuple(name.lstrip("+~") for name in self.names)

    @property
    def is_numeric(self) -> bool:
        """Whether its values are numbers, as a range's or a list of numbers."""
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return all(type(choice) in (int, float) for choice in d.choices)
        return True

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
        what = ", ".join(f"{key}={cut(encode(value))}" for key, value in given.items())
        raise ValueError(f"{what} is not in its space, {describe(self)}")

    def draw(self, chance: random.Random) -> Any:
        """Return a value drawn evenly."""
        d, count = self.distribution, self.count()
        if isinstance(d, CategoricalDistribution):
            return chance.choice(d.choices)
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
        return [d.low, d.high]


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


def _within(d: IntDistribution | FloatDistribution, value: float) -> Any:
    """Return a number as a value of a distribution of numbers, or None where it is not in it."""
    whole = isinstance(d, IntDistribution)
    if not d.low <= value <= d.high or (whole and value != int(value)):
        return None
    if d.step is not None:
        place = (value - d.low) / d.step
        if abs(place - round(place)) > 1e-6:
            return None
        value = Dimension("", "", d).nth(round(place))
    return int(value) if whole else float(value)


def describe(dimension: Dimension, key: str | None = None) -> str:
    """Return a dimension's values as text, or those of one of its keys."""
    d = dimension.distribution
    if dimension.pairs and key is not None:
        settings = (dimension.settings(choice) for choice in dimension.pairs)
        values = listing((encode(setting[key]) for setting in settings), most=20)
        return f"{values}, with {listing(k for k in dimension.keys if k != key)}"
    if isinstance(d, CategoricalDistribution):
        return listing((encode(c) for c in d.choices), most=20)
    extra = ", logarithmic" if d.log else f", step {d.step}" if d.step is not None else ""
    return f"{d.low:g} to {d.high:g}{extra}"
