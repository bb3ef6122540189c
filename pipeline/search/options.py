"""The sweeper's node of the config: its options, as the official plugin calls them, and more."""

import os
import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from omegaconf import DictConfig
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass

from pipeline.common.contract import Direction
from pipeline.common.errors import ConfigError, amount, did_you_mean, listing
from pipeline.common.text import cut
from pipeline.config.flat import tree
from pipeline.search.cost import Prices
from pipeline.search.samplers import ALLOWED
from pipeline.search.study.budget import Budget

_HYDRA_KEYS = ("_target_", "_recursive_")
PLAN = "plan"
MOST_REPEATS = 100  # seeds of a point
MOST_TRIALS = 1_000_000
MOST_PROCESSES = 1_024
MOST_RETRIES = 1_000


def _strict(description: str, **bounds: Any) -> Any:
    """Describe a type by what is said after "expected"."""
    return Field(strict=True, description=description, **bounds)


_Text = Annotated[str, _strict("a text")]
_Positive = Annotated[float, _strict("a number above 0", gt=0)]
_Keys = Annotated[Mapping[str, Any], Field(description="keys with their values")]


def _not_one(seeds: int) -> int:
    if seeds == 1:
        raise ValueError("one seed does not show how far they differ")
    return seeds


@dataclass(config=ConfigDict(extra="forbid"), frozen=True)
class Limits:
    """What a search may spend; the first limit that is reached ends it."""

    minutes: _Positive | None = None
    machine_minutes: _Positive | None = None
    patience: _Positive | None = None
    kwh: _Positive | None = None
    usd: _Positive | None = None


@dataclass(config=ConfigDict(extra="forbid"), frozen=True)
class Options:
    """The sweeper's node in the config; the names are the official plugin's."""

    sampler: Annotated[_Keys, Field(description="keys; for one by name hydra/sweeper/sampler=tpe")]
    pruner: Annotated[_Keys, Field(description="keys; for one by name hydra/sweeper/pruner=median")]
    direction: Annotated[
        Direction | Annotated[list[Direction], Field(min_length=1)] | None,
        Field(description="minimize or maximize, or a list of them"),
    ]
    storage: Annotated[str | None, _strict("a path or a database URL")]
    study_name: _Text | None
    on_change: Annotated[
        Literal["refuse", "continue", "fork"],
        Field(
            description="refuse or continue or fork: what becomes of a study whose space changed"
        ),
    ]
    n_trials: (
        Annotated[int, _strict(f"a whole number from 1 to {MOST_TRIALS:,}", ge=1, le=MOST_TRIALS)]
        | None
    )
    n_jobs: Annotated[
        Annotated[int, Field(strict=True, ge=1, le=MOST_PROCESSES)] | Literal["auto"],
        Field(
            description=f"a whole number from 1 to {MOST_PROCESSES:,}, or auto: what this machine "
            f"({amount(os.cpu_count() or 1, 'core')}) is good for"
        ),
    ]
    max_failure_rate: Annotated[float, _strict("0 to 1", ge=0, le=1)]
    params: _Keys | None
    custom_search_space: _Text | None
    retries: Annotated[
        int, _strict(f"a whole number from 0 to {MOST_RETRIES}", ge=0, le=MOST_RETRIES)
    ]
    trial_minutes: _Positive | None
    isolation: Annotated[
        Literal["worker", "trial"],
        Field(description="worker (a process for many trials) or trial (a fresh one for each)"),
    ]
    budget: Annotated[Limits, Field(description="limits, such as budget.minutes=30")]
    prices: Annotated[Prices, Field(description="prices, such as prices.core_watts=10")]
    when: Any
    zip: Any
    filter: Any
    first: Any
    warm_start: Any
    stages: Any
    allow_sampler: Any
    repeats: Annotated[
        int, _strict(f"a whole number from 1 to {MOST_REPEATS}", ge=1, le=MOST_REPEATS)
    ]
    dry_run: Annotated[
        Annotated[bool, Field(strict=True)] | Literal["plan"],
        Field(description="true or false, or plan: say also what it would cost"),
    ]
    forecast: Annotated[bool, _strict("true or false")]
    confirm: Annotated[  # seeds; 0: none
        int,
        _strict(
            f"0, or the seeds on which the winner is retrained at the end, 2 to {MOST_REPEATS}",
            ge=0,
            le=MOST_REPEATS,
        ),
        BeforeValidator(_not_one),
    ]

    @classmethod
    def read(cls, node: DictConfig) -> Self:
        """Take the options out of ``hydra.sweeper``.

        Raises:
            ConfigError: for an unknown option or one out of bounds.
        """
        given = tree(node, resolve=True)
        options = {key: value for key, value in given.items() if key not in _HYDRA_KEYS}
        if options.pop("search_space", None):
            raise ConfigError(
                "hydra.sweeper.search_space: this form is no longer read, nor is it by "
                "hydra-optuna-sweeper 1.4; write hydra.sweeper.params, such as "
                "x: interval(-5.5, 5.5). docs/migrating.md has a table."
            )
        allowed = options.get("allow_sampler") or []
        names = [allowed] if isinstance(allowed, str) else list(allowed)
        if names:  # next to the class they allow, wherever it is made
            options["sampler"] = {**options["sampler"], ALLOWED: names}
        try:
            return TypeAdapter(cls).validate_python(options)
        except ValidationError as error:
            raise ConfigError(_explain(error)) from error

    def limits(self, n_trials: int, *, charges: bool = False) -> Budget:
        """Return the budget; its minutes begin now. Trials may charge more than machines' time.

        Raises:
            ConfigError: for a limit on what costs nothing.
        """
        given, rates = self.budget, self.prices.rates(1, 1)
        free = {"kwh": rates.watts == 0, "usd": rates.usd(1.0, rates.kwh(1.0)) == 0 and not charges}
        for name, is_free in free.items():
            limit = getattr(given, name)
            if limit is not None and is_free:
                raise ConfigError(
                    f"hydra.sweeper.budget.{name}={limit:g}: nothing has a price in "
                    "hydra.sweeper.prices, so nothing would be spent; expected one above 0, such "
                    "as hydra.sweeper.prices.usd_per_core_hour=0.04."
                )
        return Budget(
            n_trials,
            stop_at=None if given.minutes is None else time.time() + 60 * given.minutes,
            machine_seconds=None if given.machine_minutes is None else 60 * given.machine_minutes,
            patience=given.patience,
            kwh=given.kwh,
            usd=given.usd,
        )


_NODES: Mapping[str, Any] = {"budget": Limits, "prices": Prices}
_UNKNOWN = {"budget": "limit", "prices": "price"}


def _explain(error: ValidationError) -> str:
    """Say the first of pydantic's findings: key, found, expected, nearest."""
    found = error.errors()[0]
    name, *rest = (str(part) for part in found["loc"])
    node: Any = _NODES[name] if name in _NODES and rest else Options
    key = name if node is Options else rest[0]
    place = f"hydra.sweeper.{name}.{key}" if node is not Options else f"hydra.sweeper.{name}"
    fields: Mapping[str, Any] = node.__pydantic_fields__
    if key not in fields:
        what = _UNKNOWN.get(name, "option")
        return (
            f"{place}: there is no such {what}.{did_you_mean(key, fields)} "
            f"Valid: {listing(sorted(fields), most=len(fields))}."
        )
    if found["type"] == "missing":
        return f"{place} must be given: {place}=…"
    expected = _expected(fields[key]) or found["msg"].removeprefix("Input should be ")
    hint = did_you_mean(str(found["input"]), ("refuse", "continue", "fork"))
    return (
        f"{place}={cut(found['input'])}: expected {expected}.{hint if key == 'on_change' else ''}"
    )


def _expected(field: Any) -> str | None:
    """Return the description of a field, or of the one type that it may have."""
    if field.description:
        return str(field.description)
    schema = TypeAdapter(field.annotation).json_schema()
    kinds = [schema, *schema.get("anyOf", ())]
    return next((kind["description"] for kind in kinds if "description" in kind), None)
