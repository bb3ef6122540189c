"""Reads the stages of a search: each is composed and checked before the first of them begins."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig
from optuna.distributions import (
    FloatDistribution,
    IntDistribution,
    check_distribution_compatibility,
)

from pipeline.common.errors import ConfigError, did_you_mean_key, listing
from pipeline.config.compose import key_of, literal
from pipeline.search.composer import NOTHING, Composer
from pipeline.search.options import Options
from pipeline.search.samplers import CENTRE
from pipeline.search.space.centre import check_given
from pipeline.search.space.dimension import Dimension, Params
from pipeline.search.space.named import space_text
from pipeline.search.space.space import Space
from pipeline.search.space.stages import (
    PLACE,
    Stage,
    StagedSpace,
    StageOptions,
    bare,
    options_of,
    within,
)

_OF_A_STAGE = ("params", "when", "zip", "filter")  # options that a stage has for itself


def read_space(composer: Composer, options: Options, arguments: list[str]) -> Space:
    """Read a search's space, or those of its stages, from its options and command line.

    Raises:
        ConfigError: for what is no space, and for what stages cannot be combined with.
    """
    if options.stages is None:
        return composer.space(arguments, options)
    given = options_of(options.stages)
    _check_options(options)
    check_given(options.sampler.get(CENTRE), {key for one in given for key in one.keys})
    asked = composer.parsed(arguments)
    searched = {bare(key) for one in given for key in one.space}
    for d in asked.dimensions:
        if d.key not in searched:
            raise ConfigError(
                f"{d.key} has several values, and no stage searches it; expected one value, or it "
                f"in the space of a stage. Searched are {listing(sorted(searched))}."
            )
    reader = _Reader(composer, options, arguments, asked)
    for number, one in enumerate(given, start=1):
        try:
            with _naming(number):
                reader.read(replace(one, first=options.first) if _begins(number, one) else one)
        except ConfigError:
            if reader.stages:  # what it keeps of them may be at fault
                probes_of(composer, StagedSpace.of(reader.stages))
            raise
    if not reader.stages:
        raise ConfigError(NOTHING)
    return StagedSpace.of(list(reader.finished()))


def _begins(number: int, one: StageOptions) -> bool:
    """Whether a stage begins with the points that are given for the whole search."""
    return number == 1 and one.first is None


def probes_of(composer: Composer, space: Space) -> list[list[DictConfig]]:
    """Compose and check, for each stage, the config with every value that must work.

    Raises:
        ConfigError: for the first that cannot work.
    """
    if not isinstance(space, StagedSpace):
        return [composer.probes(space)]
    found = []
    for stage in space.stages:
        with _naming(stage.number):
            found.append(composer.probes(space.standing_in(stage)))
    return found


@contextmanager
def _naming(number: int) -> Iterator[None]:
    place = f"{PLACE}: stage {number}"
    try:
        yield
    except ConfigError as error:
        text = str(error)
        raise ConfigError(text if text.startswith(place) else f"{place}: {text}") from error


def _check_options(options: Options) -> None:
    """Refuse options that stages leave no sense to."""
    for name in _OF_A_STAGE:
        if getattr(options, name):
            what = "space" if name == "params" else name
            raise ConfigError(
                f"{PLACE}: hydra.sweeper.{name} is given as well, and it is not said for which "
                f"stage; expected it as the key {what} of a stage."
            )
    if options.custom_search_space:
        raise ConfigError(
            f"{PLACE}: hydra.sweeper.custom_search_space={options.custom_search_space} would add "
            "to every stage keys that none knows of; expected one of the two."
        )


class _Reader:
    """Reads stages one after the other; what one searched, the next ones keep."""

    def __init__(
        self, composer: Composer, options: Options, arguments: list[str], asked: Space
    ) -> None:
        self.stages: list[Stage] = []
        self._composer = composer
        self._options = options
        self._arguments = arguments
        self._fixed = asked.fixed_keys  # by the command line
        self._chosen = {d.key for d in asked.dimensions if not _has_factors(d)}  # likewise
        self._every: dict[str, Dimension] = {}  # all that was searched so far, by parameter
        self._best: Params = {}  # parameters that the best of the stages so far may have

    def read(self, given: StageOptions) -> None:
        """Read the next stage; it is left out where the command line fixes all that it searches."""
        one = self._left(given)
        if not (one.space or one.narrow or one.when or one.zip):
            if given.space or given.narrow:
                return
            raise ConfigError("found nothing to search; expected space, with keys and values.")
        keys = frozenset(one.keys)
        settings = tuple(f"{key}={literal(value)}" for key, value in one.settings.items())
        space = self._space(one, keys, settings)
        if not space.dimensions:
            raise ConfigError("no key has several values, so there is nothing to search.")
        if self.stages and space.history is not None:
            raise ConfigError("first: history is for the first stage; expected points.")
        stage = Stage(
            number=len(self.stages) + 1,
            space=space,
            n_trials=one.n_trials,
            narrow=one.narrow,
            keys=keys,
            settings=settings,
            fixed={bare(key): _plain(value) for key, value in one.settings.items()},
            stand_in=self._best,
        )
        self._check_again(space.dimensions)
        begun, fixed = stage.begun(stage.stand_in, self._every)
        self.stages.append(stage)
        self._every = {**{d.key: d for d in space.dimensions}, **self._every}
        self._best = {**fixed, **next(begun.probes())}

    def finished(self) -> Iterator[Stage]:
        """Yield the stages; the first one knows what it has of the keys that later ones search."""
        searched = {key for d in self._every.values() for key in d.keys}
        later = (d for d in self._every.values() if d.when is None and not d.pairs)
        base = self._composer.base(self.stages[0].space.fixed)
        first = self.stages[0]
        known = {
            d.key: _plain(base.value(d.key))
            for d in later
            if d.key in base.keys and not within(d.keys, first.keys)
        }
        for stage in self.stages:
            own = {key: value for key, value in stage.fixed.items() if key in searched}
            fixed = {**known, **own} if stage is first else own
            yield replace(stage, fixed={k: v for k, v in fixed.items() if self._fits(k, v)})

    def _fits(self, key: str, value: Any) -> bool:
        """Whether a value can be shown next to those of a parameter: a text is no number."""
        d = self._every.get(key)
        return d is None or not d.is_numeric or type(value) in (int, float)

    def _left(self, given: StageOptions) -> StageOptions:
        """Return what the command line leaves of a stage."""

        def left(keys: Mapping[str, Any]) -> dict[str, Any]:
            return {key: value for key, value in keys.items() if bare(key) not in self._fixed}

        return replace(
            given,
            space=left(given.space),
            narrow={k: v for k, v in left(given.narrow).items() if k not in self._chosen},
            settings=left(given.settings),
        )

    def _space(self, one: StageOptions, keys: frozenset[str], settings: tuple[str, ...]) -> Space:
        """Return a stage's space, checked next to what it may keep of the stages before."""
        composer, own = self._composer, {bare(key) for key in one.space}
        configured = [f"{key}={space_text(key, value)}" for key, value in one.space.items()]
        arguments = [a for a in self._arguments if key_of(a) in self._fixed | own]
        space = composer.parsed([*configured, *settings, *arguments])
        space = replace(space, dimensions=(*space.dimensions, *self._narrowed(one.narrow)))
        empty = Stage(0, space, None, {}, keys, (), {}, {})
        with_kept, _ = empty.begun(self._best, self._every)
        base = composer.base(with_kept.fixed)
        if not self.stages:
            composer.choices = base.choices
        kept = {key for d in self._every.values() for key in d.keys if not within([key], keys)}
        self._check_when(one, kept)
        enriched = composer.enriched(with_kept, one, self._options, base)
        if enriched.filter is not None:
            self._check_filter(enriched.filter.keys, kept)
        # A narrowed key begins at its best value, not at the config's.
        centre = {key: value for key, value in enriched.centre.items() if key not in one.narrow}
        return replace(enriched, fixed=space.fixed, centre=centre)

    def _narrowed(self, narrow: Mapping[str, float]) -> Iterator[Dimension]:
        """Yield the dimensions that are narrowed, with their whole ranges."""
        for key in narrow:
            d = self._every.get(key)
            if d is None:
                raise ConfigError(
                    f"narrow: no stage before this one searches {key}."
                    f"{did_you_mean_key(key, self._every)} Searched so far are "
                    f"{listing(self._every) or 'none'}."
                )
            if d.when or not _has_factors(d):
                raise ConfigError(
                    f"narrow: {key} is not an interval of numbers above 0 in every trial, so there "
                    "is no factor around its best value; expected its values in this stage's "
                    "space, or nothing: it stays as the best trial has it."
                )
            yield d

    def _check_again(self, dimensions: Iterable[Dimension]) -> None:
        """Refuse a parameter that Optuna does not let one study have both times."""
        for d in dimensions:
            if d.key in self._every:
                try:
                    check_distribution_compatibility(
                        self._every[d.key].distribution, d.distribution
                    )
                except ValueError as error:
                    raise ConfigError(
                        f"{d.key} was searched by an earlier stage, and Optuna keeps the values "
                        "of a choice, and the scale of a range, as a study began with them; "
                        "expected the same values, or an interval of the same scale."
                    ) from error

    @staticmethod
    def _check_when(one: StageOptions, kept: set[str]) -> None:
        for text in one.when or {}:
            key = text.partition("=")[0].strip()
            if key in kept:
                raise ConfigError(
                    f"when: {text}: {key} is searched by an earlier stage, so its value is not "
                    "known yet; expected a key that this stage searches."
                )

    @staticmethod
    def _check_filter(keys: Sequence[str], kept: set[str]) -> None:
        for key in keys:
            if within([key], kept):
                raise ConfigError(
                    f"filter: {key} is searched by an earlier stage, so its value is not known "
                    "yet; expected keys that this stage searches, or that none does."
                )


def _has_factors(dimension: Dimension) -> bool:
    """Whether what lies within a factor of a value is a range of a dimension."""
    match dimension.distribution:
        case FloatDistribution(low=low, step=step):
            return low > 0 and step is None
        case IntDistribution(low=low):
            return low > 0
    return False


def _plain(value: Any) -> Any:
    """Return a setting as a parameter's value."""
    return value if isinstance(value, int | float | bool | None) else literal(value)
