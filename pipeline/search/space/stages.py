"""Stages: searches in turn within one study, each with a space of its own.

A stage begins from the best trial so far. What an earlier stage searched stays as that trial has
it; only what the stage searches itself, narrows or sets is another.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any

from optuna.distributions import FloatDistribution, IntDistribution
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as typed

from pipeline.common.errors import ConfigError, did_you_mean, listing
from pipeline.common.text import cut
from pipeline.config.compose import literal
from pipeline.config.explain import first
from pipeline.config.types import Count
from pipeline.search.space.dimension import Dimension, Params
from pipeline.search.space.space import Space

PLACE = "hydra.sweeper.stages"
_Factor = Annotated[float, Field(strict=True, gt=1, description="a number above 1")]


@typed(config=ConfigDict(extra="forbid"), frozen=True)
class StageOptions:
    """What is written of a stage; the names are those of a whole sweep."""

    space: dict[str, Any] = field(default_factory=dict)
    narrow: dict[str, _Factor] = field(default_factory=dict)  # key: factor around the best value
    n_trials: Count | None = None  # null: every point of a grid, 20 otherwise
    settings: dict[str, Any] = field(default_factory=dict)  # what the stage fixes for itself
    when: dict[str, dict[str, Any]] | None = None
    zip: list[dict[str, list[Any]]] | None = None
    filter: str | None = None
    first: Any = None

    @property
    def keys(self) -> set[str]:
        """The keys of the config that the stage searches or sets."""
        blocks = [self.space, self.narrow, self.settings, *(self.zip or ())]
        blocks += (self.when or {}).values()
        return {bare(key) for block in blocks for key in block}


def bare(key: str) -> str:
    """Return a key without the signs that add it to the config."""
    return str(key).lstrip("+~")


def options_of(given: Any) -> list[StageOptions]:
    """Read ``hydra.sweeper.stages``.

    Raises:
        ConfigError: for what is no list of stages.
    """
    if not isinstance(given, list) or not given:
        raise ConfigError(
            f"{PLACE}={cut(given)}: expected a list of stages, such as [{{space: {{…}}}}, {{…}}]."
        )
    return [_options(number, stage) for number, stage in enumerate(given, start=1)]


def _options(number: int, given: Any) -> StageOptions:
    place = f"{PLACE}: stage {number}"
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"{place}={cut(given)}: expected keys with their values, as space: {{…}}."
        )
    try:
        read: StageOptions = TypeAdapter(StageOptions).validate_python(given)
    except ValidationError as error:
        found = first(error)
        valid = list(StageOptions.__dataclass_fields__)
        key = ".".join(str(part) for part in found["loc"])
        if found["type"] == "unexpected_keyword_argument":
            near = did_you_mean(key, valid)
            raise ConfigError(
                f"{place}: {key} is not a key of a stage.{near} Valid: {listing(valid)}."
            ) from error
        expected = found["msg"].removeprefix("Input ")
        raise ConfigError(f"{place}: {key}={cut(repr(found['input']))}: {expected}.") from error
    twice = {bare(key) for key in read.settings} & {bare(key) for key in read.space | read.narrow}
    if twice:
        raise ConfigError(f"{place}: {min(twice)} is both set and searched; expected one of them.")
    if both := {bare(key) for key in read.space} & {bare(key) for key in read.narrow}:
        where = f"{place}: {min(both)} is both in space and in narrow"
        raise ConfigError(f"{where}; expected one of them.")
    return read


@dataclass(frozen=True)
class Stage:
    """A stage before it begins: the trial that it begins from is not known yet."""

    number: int
    space: Space  # its own: narrowed keys have their whole range, and nothing is kept
    n_trials: int | None
    narrow: Mapping[str, float] = field(hash=False)
    keys: frozenset[str]  # of the config that it searches or sets
    settings: tuple[str, ...]  # overrides of its own
    fixed: Params = field(hash=False)  # what it does not search and others do, by its parameter
    stand_in: Params = field(hash=False)  # parameters as the best so far may have them

    def begun(self, best: Params, every: Mapping[str, Dimension]) -> tuple[Space, Params]:
        """Return the stage's space, and the parameters that its trials have besides.

        Args:
            best: the parameters of the trial that it begins from, those that were fixed included.
            every: the parameters of all stages by name.
        """
        kept = {k: v for k, v in best.items() if not within(_keys(k, every), self.keys)}
        overrides = [o for name, value in kept.items() for o in _overrides(name, value, every)]
        known = {key: best[key] for key in self.narrow if key in best}
        dimensions = tuple(
            _narrowed(d, known[d.key], self.narrow[d.key]) if d.key in known else d
            for d in self.space.dimensions
        )
        points = tuple({**known, **point} for point in self.space.first)
        space = replace(
            self.space,
            dimensions=dimensions,
            fixed=(*self.space.fixed, *overrides),
            first=points,
            centre={**self.space.centre, **_matching(best, dimensions)},
        )
        return space, {**kept, **self.fixed}

    def describe(self) -> dict[str, str]:
        """Return each key's space in a line, then what else makes this stage."""
        described = self.space.describe()
        for key, factor in self.narrow.items():
            described[key] = f"within a factor of {factor:g} of the best"
        return described


@dataclass(frozen=True)
class StagedSpace(Space):
    """The spaces of all stages together, by which trials are shown, and studies told apart."""

    stages: tuple[Stage, ...] = ()

    @classmethod
    def of(cls, stages: Sequence[Stage]) -> "StagedSpace":
        """Return the space of stages; a parameter of several has its first, widest range."""
        every = {d.key: d for stage in reversed(stages) for d in stage.space.dimensions}
        order = dict.fromkeys(d.key for stage in stages for d in stage.space.dimensions)
        common = [o for o in stages[0].space.fixed if all(o in s.space.fixed for s in stages)]
        return cls(tuple(every[key] for key in order), tuple(common), stages=tuple(stages))

    def without(self, flat: Mapping[str, Any]) -> dict[str, Any]:
        """Return a flat config without what any stage searches or sets."""
        keys = {key for stage in self.stages for key in stage.keys}
        return {k: v for k, v in super().without(flat).items() if not within([k], keys)}

    def describe(self) -> dict[str, str]:
        """Return each key's space in a line: of the stages that search it, or all if it is one."""
        lines: dict[str, list[str]] = {}
        for stage in self.stages:
            for key, line in stage.describe().items():
                lines.setdefault(key, []).append(f"{line} (stage {stage.number})")
        return {key: "; ".join(parts) for key, parts in lines.items()}

    @cached_property
    def every(self) -> dict[str, Dimension]:
        """The parameters of all stages by name."""
        return {d.key: d for d in self.dimensions}

    def standing_in(self, stage: Stage) -> Space:
        """Return a stage's space as if a point of the earlier ones were the best."""
        wide = replace(stage, narrow={})
        return wide.begun(stage.stand_in, self.every)[0]

    def notes(self) -> list[str]:
        """Return what makes each stage, to tell another list of stages from this one."""
        return [f"{one.describe()} {list(one.settings)}" for one in self.stages]


def within(keys: Collection[str], others: Collection[str]) -> bool:
    """Whether one of some keys of the config is, or lies in, one of some others."""
    groups = tuple(f"{key.replace('/', '.')}." for key in others)
    return any(f"{key.replace('/', '.')}.".startswith(groups) for key in keys)


def _keys(name: str, every: Mapping[str, Dimension]) -> tuple[str, ...]:
    return every[name].keys if name in every else (name,)


def _overrides(name: str, value: Any, every: Mapping[str, Dimension]) -> Iterator[str]:
    yield from every[name].overrides(value) if name in every else [f"{name}={literal(value)}"]


def _matching(params: Params, dimensions: Sequence[Dimension]) -> Params:
    """Return the parameters that are values of some dimensions."""
    found = {}
    for d in dimensions:
        if d.key in params:
            with suppress(ValueError):
                found[d.key] = d.match(d.settings(params[d.key]))
    return found


def _narrowed(dimension: Dimension, best: float, factor: float) -> Dimension:
    """Return a range of numbers cut to what lies within a factor of a value."""
    d = dimension.distribution
    low, high = best / factor, best * factor
    if isinstance(d, IntDistribution):
        steps = math.floor((best - low) / d.step), math.floor((high - best) / d.step)
        ends = int(best) - steps[0] * d.step, int(best) + steps[1] * d.step
        near: Any = IntDistribution(max(d.low, ends[0]), min(d.high, ends[1]), d.log, d.step)
    else:
        assert isinstance(d, FloatDistribution)
        near = FloatDistribution(max(d.low, low), min(d.high, high), d.log)
    return replace(dimension, distribution=near)
