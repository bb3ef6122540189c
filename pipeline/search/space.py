"""The search space: Hydra's override grammar read as Optuna distributions, and back again."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Transformer
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from pipeline.compose import plain_errors
from pipeline.errors import ConfigError, listing

Params = dict[str, Any]


@dataclass(frozen=True)
class Dimension:
    """One searched key."""

    key: str  # the parameter's name: the override's key without + or ++
    override_key: str  # with them
    distribution: BaseDistribution

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
        assert isinstance(d, FloatDistribution)
        assert d.step is not None
        # Rounded to the digits of the step, so that 0.1 + 2 × 0.1 is 0.3.
        digits = max(0, 12 - math.floor(math.log10(d.step)))
        return [round(d.low + i * d.step, digits) for i in range(self.count() or 0)]

    def extremes(self) -> list[Any]:
        """Return the values to check before the search: every choice, or both ends of a range."""
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return list(d.choices)
        assert isinstance(d, IntDistribution | FloatDistribution)
        return [d.low, d.high]


@dataclass(frozen=True)
class Space:
    """The searched keys, in the order they were given, and the overrides that stay fixed."""

    dimensions: tuple[Dimension, ...]
    fixed: tuple[str, ...]

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's view of the space."""
        return {d.key: d.distribution for d in self.dimensions}

    @property
    def infinite(self) -> list[str]:
        """The keys with infinitely many values."""
        return [d.key for d in self.dimensions if d.count() is None]

    @property
    def size(self) -> int:
        """Points of the grid, without listing them; every dimension must be finite."""
        return math.prod(d.count() or 0 for d in self.dimensions)

    def grid(self) -> Iterator[Params]:
        """Yield every point once, the last key changing fastest."""
        keys = [d.key for d in self.dimensions]
        for point in itertools.product(*(d.grid() for d in self.dimensions)):
            yield dict(zip(keys, point, strict=True))

    def overrides(self, params: Mapping[str, Any]) -> list[str]:
        """Return the command line of a trial: what is fixed, then the trial's parameters."""
        prefixed = {d.key: d.override_key for d in self.dimensions}
        return [*self.fixed, *(f"{prefixed.get(k, k)}={encode(v)}" for k, v in params.items())]

    @property
    def first(self) -> Params:
        """The point of all first values."""
        return {d.key: d.extremes()[0] for d in self.dimensions}

    def probes(self) -> Iterator[Params]:
        """Yield a point for each value that must compose, the other keys at their first."""
        yield self.first
        for d in self.dimensions:
            for value in d.extremes()[1:]:
                yield {**self.first, d.key: value}

    def without(self, flat: Mapping[str, Any]) -> dict[str, Any]:
        """Return a flat config without the searched keys and what lies in a searched group."""
        searched = tuple(f"{key.replace('/', '.')}." for key in self.distributions)
        return {key: value for key, value in flat.items() if not f"{key}.".startswith(searched)}

    def describe(self) -> dict[str, str]:
        """Return each key's space in a line."""
        return {d.key: _describe(d) for d in self.dimensions}


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


def _name(override: Override) -> str:
    return override.get_key_element().lstrip("+~")


def _distribution(key: str, override: Override) -> BaseDistribution:
    value = override.value()
    try:
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


def _describe(dimension: Dimension) -> str:
    d = dimension.distribution
    if isinstance(d, CategoricalDistribution):
        return listing((encode(c) for c in d.choices), most=20)
    assert isinstance(d, IntDistribution | FloatDistribution)
    extra = ", logarithmic" if d.log else f", step {d.step}" if d.step is not None else ""
    return f"{d.low:g} to {d.high:g}{extra}"
