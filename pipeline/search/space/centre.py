"""The centre of a space: what the config has, of all that is searched, without the search."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig
from optuna.distributions import CategoricalDistribution

from pipeline.common.errors import ConfigError, listing
from pipeline.search.space.conditions import Base
from pipeline.search.space.dimension import Dimension
from pipeline.search.space.space import Space

Settle = Callable[[DictConfig, str], Any]  # `Searchable.settled`


def centred(space: Space, base: Base, settle: Settle) -> Space:
    """Give a space its centre: the config's own values, of the keys that have one.

    A number outside the range is moved to its nearest end, or to the nearest of a list. A key that
    a choice opens has the value that comes with this choice.

    Raises:
        ConfigError: where no key has a value.
    """
    centre = {}
    for d in space.dimensions:
        own = base if d.when is None else base.alone(space.overrides(space.opening(d)))
        value = _centre(d, own, settle)
        if value is not None:
            centre[d.key] = value
    if not centre and space.dimensions:
        keys = listing(key for d in space.dimensions for key in d.keys)
        raise ConfigError(
            f"hydra/sweeper/sampler=prior: it begins at the config's own values, and of {keys} "
            "the config has none that the search may take; expected a value in the config, or the "
            "sampler tpe."
        )
    return replace(space, centre=centre)


def _centre(dimension: Dimension, base: Base, settle: Settle) -> Any:
    """Return the value of a dimension that is nearest to the config's; None where it has none."""
    try:
        own = {key: base.value(key) for key in dimension.keys}
    except ConfigError:  # it is written in terms of a key that only the search gives a value
        return None
    value = next(iter(own.values()))
    if dimension.is_numeric:
        if isinstance(value, str):
            value = base.settled(dimension.keys[0], settle)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _nearest(dimension, value)
    try:
        return dimension.match(own)
    except ValueError:
        return None


def _nearest(dimension: Dimension, value: float) -> Any:
    d = dimension.distribution
    if not math.isfinite(value):
        return None
    if isinstance(d, CategoricalDistribution):
        numbers: list[Any] = list(d.choices)
        scale = math.log if min(value, *numbers) > 0 else float
        return min(numbers, key=lambda choice: abs(scale(choice) - scale(value)))
    inside = min(max(value, d.low), d.high)
    if d.step is None:
        return inside
    return dimension.nth(round((inside - d.low) / d.step))
