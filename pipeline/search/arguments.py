"""Options of a sampler or pruner, checked against the constructor that takes them."""

import inspect
from collections.abc import Collection, Mapping
from typing import Any

from pipeline.common.errors import ConfigError, did_you_mean, listing
from pipeline.common.text import cut

MOST = 100_000  # candidates, trials, steps: many are held in memory at once

# Optuna checks few of its arguments: what it does not, fails in a trial or changes the search.
_KINDS: Mapping[str, tuple[str, tuple[type, ...]]] = {
    "int": ("a whole number", (int,)),
    "float": ("a number", (int, float)),
    "bool": ("true or false", (bool,)),
    "str": ("a text", (str,)),
    "None": ("null", (type(None),)),
}


def check_arguments(
    place: str, taker: Any, given: Mapping[str, Any], also: Collection[str] = (), most: int = MOST
) -> None:
    """Refuse options that a class does not have, and values that are not of the type it names.

    Types that no value of a config has, such as functions and samplers, are not checked.

    Args:
        place: the key that the options are under.
        taker: the class.
        given: its options.
        also: options that are not its own.
        most: of a whole number.

    Raises:
        ConfigError: naming the key, what was found and what was expected.
    """
    every = inspect.signature(taker).parameters
    accepted = {name: p for name, p in every.items() if p.kind != p.POSITIONAL_ONLY}
    if any(p.kind == p.VAR_KEYWORD for p in accepted.values()):
        return
    for option, value in given.items():
        if option not in accepted:
            raise ConfigError(
                f"{place}.{option}: {taker.__name__} has no such option."
                f"{did_you_mean(option, accepted)} Valid: {listing([*accepted, *also], most=20)}."
            )
        names = inspect.formatannotation(accepted[option].annotation).strip("'").split(" | ")
        kinds = [_KINDS[name] for name in names if name in _KINDS]
        fits = any(type(value) in types for _, types in kinds)  # exactly: true is no number
        if len(kinds) == len(names) and not fits and value != accepted[option].default:
            words = " or ".join(word for word, _ in kinds)
            raise ConfigError(f"{place}.{option}={cut(repr(value))}: expected {words}.")
        if type(value) is int and abs(value) > most:
            raise ConfigError(f"{place}.{option}={value}: expected at most {most:,}.")
