"""Hydra's override grammar, read as a space of Optuna's distributions."""

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    IntervalSweep,
    Override,
    RangeSweep,
    Sweep,
    Transformer,
)
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from pipeline.common.errors import ConfigError
from pipeline.common.text import cut
from pipeline.config.refusals import plain_errors
from pipeline.search.space.dimension import Dimension, Distribution
from pipeline.search.space.named import check_few
from pipeline.search.space.space import Space

MOST = 2**53  # whole numbers up to it are exact where samplers count in floats
HUGE = 1e300  # so that a difference of two numbers is one


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


def _name(override: Override) -> str:
    return override.get_key_element().lstrip("+~")


def _distribution(key: str, override: Override) -> Distribution:
    value = override.value()
    try:
        _check_tags(value)
        if isinstance(value, IntervalSweep):
            return _interval(value)
        if isinstance(value, RangeSweep) and not value.shuffle:
            return _range(value)
        if any(isinstance(choice, Sweep) for choice in getattr(value, "list", ())):
            raise ValueError("a range is one of several values; expected values, or one range.")
        choices = list(override.sweep_iterator(transformer=Transformer.encode))
        # A list or a mapping becomes its text in the grammar: Optuna keeps plain values only.
        check_few(key, choices)
        plain = [c if isinstance(c, str | int | float | bool | None) else str(c) for c in choices]
        unique = {(type(value), value): value for value in plain}  # 1 and True differ
        return CategoricalDistribution(list(unique.values()))
    except ValueError as error:
        raise ConfigError(f"{cut(override.input_line)}: {key}: {error}") from error


def _check_tags(sweep: Any) -> None:
    """Refuse tags that would be ignored: a search is not meant to be another than it looks."""
    ordered = isinstance(sweep, IntervalSweep | RangeSweep)
    for tag in sorted(getattr(sweep, "tags", ())):
        if not ordered:
            raise ValueError(f"the tag {tag} has no meaning for a choice.")
        if tag != "log":
            raise ValueError(f"there is no tag {tag}; expected log.")


def _check_numbers(*numbers: float) -> None:
    for number in numbers:
        whole = isinstance(number, int)
        if not abs(number) <= (MOST if whole else HUGE):  # not: also for NaN
            limit = f"{MOST}" if whole else f"{HUGE:g}"
            raise ValueError(f"found {cut(number)}; expected numbers from -{limit} to {limit}.")


def _interval(sweep: IntervalSweep) -> Distribution:
    low, high, log = sweep.start, sweep.end, "log" in sweep.tags
    assert low is not None
    assert high is not None
    _check_numbers(low, high)
    if low > high:
        raise ValueError(f"the interval's low end {low} is above its high end {high}.")
    if log and low <= 0:
        raise ValueError(f"a logarithmic interval must begin above 0, found {low}.")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _range(sweep: RangeSweep) -> Distribution:
    """Read ``range(start, stop, step)``: stop is left out, as Hydra has it, for every sampler."""
    assert sweep.start is not None
    assert sweep.stop is not None
    assert sweep.step is not None
    _check_numbers(sweep.start, sweep.stop, sweep.step)
    if sweep.step == 0:
        raise ValueError("the step is 0; expected another one.")
    # Decimals: added up as floats, 0.1 + 0.1 + 0.1 would pass 0.3 and bring stop in again.
    start, stop, step = (Decimal(str(v)) for v in (sweep.start, sweep.stop, sweep.step))
    count = math.ceil((stop - start) / step)
    if count < 1:
        raise ValueError(f"range({start}, {stop}, {step}) is empty; expected start before stop.")
    if count > MOST:
        raise ValueError(f"more than {MOST} values; expected a larger step, or interval(…).")
    low, high = sorted((start, start + (count - 1) * step))
    log = "log" in sweep.tags
    if all(isinstance(v, int) for v in (sweep.start, sweep.stop, sweep.step)):
        return IntDistribution(int(low), int(high), step=int(abs(step)), log=log)
    if log:
        raise ValueError("a logarithmic range holds whole numbers; use tag(log, interval(…)).")
    return FloatDistribution(float(low), float(high), step=float(abs(step)))
