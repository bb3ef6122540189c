"""The centre of a space: what the config has, of all that is searched, without the search."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig
from optuna.distributions import CategoricalDistribution

from pipeline.common.errors import ConfigError, did_you_mean_key, listing
from pipeline.common.text import cut
from pipeline.config.compose import literal
from pipeline.search.space.conditions import Base
from pipeline.search.space.dimension import Dimension, describe, encode
from pipeline.search.space.space import Space

_PLACE = "hydra.sweeper.sampler.centre"
Decide = Callable[[DictConfig, str], Any]  # `Searchable.decided`


def centred(space: Space, base: Base, decide: Decide, given: Mapping[str, Any]) -> Space:
    """Give a space its centre: the config's own values, of the keys that have one.

    A number outside the range is moved to its nearest end, or to the nearest of a list. A key that
    a choice opens has the value that comes with this choice. ``given`` has values, by key, that
    count instead of the config's own; `check_given` knows whether it may.

    Raises:
        ConfigError: where no key has a value, and for one given that the space cannot have.
    """
    _check_values(space, given)
    base = base.chosen(_overrides(space, given))
    centre = {}
    for d in space.dimensions:
        opening = space.overrides(space.opening(d))[len(space.fixed) :]
        value = _centre(d, base.chosen(opening) if opening else base, decide)
        if value is not None:
            centre[d.key] = value
        elif any(key in given for key in d.keys):
            values = ", ".join(f"{key}={encode(base.value(key))}" for key in d.keys)
            raise ConfigError(f"{_PLACE}: {values} is not in its space, {describe(d)}.")
    names = {name: key for d in space.dimensions for name, key in zip(d.names, d.keys, strict=True)}
    valid = [key for name, key in names.items() if name.startswith("+") or key in base.keys]
    if valid and not centre:  # other keys are refused for what they are
        raise ConfigError(
            "hydra/sweeper/sampler=prior: it begins at the config's own values, and of "
            f"{listing(valid)} the config has none that the search may take; expected a value in "
            "the config or in hydra.sweeper.sampler.centre, or the sampler tpe."
        )
    return replace(space, centre=centre)


def check_given(given: Any, searched: Collection[str], fixed: Collection[str] = ()) -> None:
    """Refuse values for the centre of keys that are neither searched nor fixed by the command line.

    Raises:
        ConfigError: naming the first.
    """
    if not isinstance(given, Mapping | None):
        raise ConfigError(f"{_PLACE}={cut(given)}: expected searched keys with a value each.")
    for key in given or {}:
        if key not in searched and key not in fixed:
            hint = did_you_mean_key(key, list(searched))
            raise ConfigError(f"{_PLACE}: {key} is not searched.{hint}")


def _check_values(space: Space, given: Mapping[str, Any]) -> None:
    """Refuse a number outside its range, and what is none of the choices."""
    for d in space.dimensions:
        own = {key: given[key] for key in d.keys if key in given}
        if not own or (d.is_numeric and all(isinstance(value, str) for value in own.values())):
            continue  # a text may stand for a number, such as ``auto``
        try:
            d.match(own)
        except ValueError as error:
            raise ConfigError(f"{_PLACE}: {error}.") from error


def _overrides(space: Space, given: Mapping[str, Any]) -> list[str]:
    keys = {key: name for d in space.dimensions for key, name in zip(d.keys, d.names, strict=True)}
    return [f"{keys[key]}={literal(value)}" for key, value in given.items() if key in keys]


def _centre(dimension: Dimension, base: Base, decide: Decide) -> Any:
    """Return the value of a dimension that is nearest to the config's; None where it has none."""
    try:
        own = {key: base.value(key) for key in dimension.keys}
    except ConfigError:  # it is written in terms of a key that only the search gives a value
        return None
    value = next(iter(own.values()))
    if dimension.is_numeric:
        if isinstance(value, str):
            value = base.decided(dimension.keys[0], decide)
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
