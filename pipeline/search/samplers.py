"""Samplers by name, seeded for each trial from the study's seed and the trial's place."""

import copy
import hashlib
import inspect
import logging
import warnings
from collections.abc import Callable, Collection, Mapping
from functools import cache, partial
from multiprocessing import parent_process
from typing import Any

import numpy as np
import optuna
from hydra.errors import HydraException
from hydra.utils import get_class, instantiate
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from pipeline.common.contract import Direction
from pipeline.common.errors import ConfigError, did_you_mean, listing
from pipeline.search.arguments import check_arguments
from pipeline.search.optuna_parts import PlacedQmc, ThinnedTpe, share_space, trials_by_number
from pipeline.search.prior import PriorSampler
from pipeline.search.space.space import Space
from pipeline.search.study.trials import ADDED, ATTEMPT, REPLACES, place_of

log = logging.getLogger(__name__)

GRID = "GridSampler"
PRIOR = PriorSampler.__name__
CENTRE = "centre"  # key of its config: values instead of the config's own, which the space has
MOST_SEED = 2**32 - 1  # that numpy takes
ALLOWED = "_allowed_"  # key of a sampler's config: the dotted paths that allow_sampler names
# Our spaces are known beforehand, so a grid has every point that brute force would find, and each
# is claimed once, by however many workers. MOTPESampler is TPESampler since Optuna 4.
_NOW_CALLED = {"BruteForceSampler": GRID, "MOTPESampler": "TPESampler"}
_OPTIONS_NOW_CALLED = {"n_ehvi_candidates": "n_ei_candidates"}
# Options that hydra-optuna-sweeper has and Optuna 5 only takes for show, and what it does instead.
_WITHOUT_EFFECT = {"consider_prior": True, "restart_strategy": None, "inc_popsize": -1}


def sampler_name(options: Mapping[str, Any], space: Space) -> str:
    """Return the class of optuna.samplers that a sampler's config asks for.

    A config without ``_target_`` leaves the choice to us: a grid where every dimension is finite,
    TPE elsewhere. A class of the user's own is named by its dotted path.

    Raises:
        ConfigError: where there is no such class, or the user has not allowed it.
    """
    target = options.get("_target_")
    if target is None:
        return "TPESampler" if space.infinite else GRID
    prefix, _, name = str(target).rpartition(".")
    if (prefix, name) == (PriorSampler.__module__, PRIOR):
        return PRIOR
    if prefix != "optuna.samplers" and target in options.get(ALLOWED, ()):
        return str(target)
    names = [n for n in optuna.samplers.__all__ if n.endswith("Sampler") and n != "BaseSampler"]
    if prefix != "optuna.samplers" or name not in [*names, *_NOW_CALLED]:
        raise ConfigError(
            f"hydra.sweeper.sampler._target_={target}: there is no such class in optuna.samplers."
            f"{did_you_mean(name, names)} Valid: {listing(names, most=20)}. A class of your own "
            f"is run where hydra.sweeper.allow_sampler={target} says so."
        )
    return _NOW_CALLED.get(name, name)


def seed_of(options: Mapping[str, Any]) -> int | None:
    """Return the seed that a sampler's config gives, if any.

    Raises:
        ConfigError: for one that no random generator takes.
    """
    seed = options.get("seed")
    if seed is not None and not (type(seed) is int and 0 <= seed <= MOST_SEED):
        raise ConfigError(
            f"hydra.sweeper.sampler.seed={seed!r}: expected a whole number from 0 to {MOST_SEED}, "
            "or null for another one each time."
        )
    return seed


def make_sampler(
    options: Mapping[str, Any], space: Space, seed: int, reported: Direction | None = None
) -> BaseSampler:
    """Make a study's sampler from its config.

    A class that takes a ``seed`` is made anew for each trial. One that does not is made once, and
    has to see to it itself that workers and later starts do not draw the same. ``reported`` is the
    direction of what trials report, if it is not the objective's.

    Raises:
        ConfigError: for an option that the sampler does not have or take, and for an own class
            that is no sampler.
    """
    name = sampler_name(options, space)
    if name == GRID:
        shuffle = options.get("shuffle", False)
        if not isinstance(shuffle, bool):
            raise ConfigError(f"hydra.sweeper.sampler.shuffle={shuffle}: expected true or false.")
        # A grid's points are queued in the study; what custom_search_space adds is still drawn.
        return SeededSampler(lambda seed, _: optuna.samplers.RandomSampler(seed=seed), seed)
    sampler_class = _class_of(name)
    given = {k: v for k, v in options.items() if not k.startswith("_") and k != "seed"}
    also = [CENTRE] if name == PRIOR else []
    given = {k: v for k, v in given.items() if k not in also}
    if "." not in name:
        given = _in_words_of_today(given)
    check_arguments("hydra.sweeper.sampler", sampler_class, given, also)
    accepted = inspect.signature(sampler_class).parameters
    takes_any = any(p.kind == p.VAR_KEYWORD for p in accepted.values())
    made: Callable[..., BaseSampler] = _OWN_CLASSES.get(name, sampler_class)
    if name == PRIOR:
        made = partial(PriorSampler, space, reported)
    make = partial(_make, made, given, options.get(ALLOWED, ()))
    own = partial(_of_place, name, space, seed)
    try:
        if "seed" in accepted or takes_any:
            return SeededSampler(lambda drawn, place: make(drawn, own(drawn, place)), seed)
        same = make(seed, {})  # without a seed: one for all trials
        return SeededSampler(lambda *_: same, seed)
    except (TypeError, ValueError, ImportError, HydraException) as error:
        raise ConfigError(f"hydra.sweeper.sampler: {name}: {error}") from error


class SeededSampler(BaseSampler):
    """Draws each trial with a fresh sampler, seeded from (study seed, place of the trial).

    A sampler's random state is not in the storage, so a plain seeded sampler that is made again
    after a restart repeats its first draws. Seeded this way a search that was cut and continued
    proposes what the uncut one would have. Killed trials have no place: their retry takes it. What
    a user adds has none either, and draws by its number.
    """

    def __init__(self, make: Callable[[int, int | None], BaseSampler], seed: int) -> None:
        self._make = make
        self._seed = seed
        self._sampler = make(seed, 0)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Make the sampler of this trial."""
        self.asked = trial.number  # Optuna does not say which trial a sampler failed at
        # Of all: under Hyperband `study` shows the trials of one bracket only.
        place: int | None = place_of(trial.number, trials_by_number(study))
        drawn = f"{self._seed}:{place}"
        if ADDED in trial.user_attrs:
            place, drawn = None, f"{drawn}:{trial.number}"
        digest = hashlib.blake2b(drawn.encode(), digest_size=4).digest()
        made = self._make(int.from_bytes(digest, "big"), place)
        share_space(self._sampler, made)
        self._sampler = made
        self._sampler.before_trial(study, trial)
        if not {ATTEMPT, REPLACES}.isdisjoint(trial.user_attrs):
            # A retry has its parameters, so nobody would ask; but an evolution counts in a
            # generation the trials that it was asked for.
            self.sample_relative(study, trial, self.infer_relative_search_space(study, trial))

    def infer_relative_search_space(self, *asked: Any) -> dict[str, BaseDistribution]:
        """Ask the trial's sampler."""
        return self._sampler.infer_relative_search_space(*asked)

    def sample_relative(self, *asked: Any) -> dict[str, Any]:
        """Ask the trial's sampler."""
        return self._sampler.sample_relative(*asked)

    def sample_independent(self, *asked: Any) -> Any:
        """Ask the trial's sampler."""
        return self._sampler.sample_independent(*asked)

    def after_trial(self, *told: Any) -> None:
        """Tell the trial's sampler."""
        self._sampler.after_trial(*told)


class _PlacedCmaEs(optuna.samplers.CmaEsSampler):
    """CMA-ES whose draw depends on the trial's place; Optuna's adds its number to the seed.

    The evolution's own state is in the storage already.
    """

    def __init__(self, *, place: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self._place = place

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw for the trial's place."""
        placed = copy.copy(trial)
        placed.number = self._place
        return super().sample_relative(study, placed, search_space)


def _of_place(
    name: str, space: Space, study_seed: int, seed: int, place: int | None
) -> dict[str, Any]:
    """Return what a sampler is given for a trial: its seed, and what a seed does not do for."""
    if name == "QMCSampler":
        return {
            "seed": study_seed,  # as the sequence is the study's; only what is not in it is drawn
            "place": place,
            "distributions": space.distributions,
            "independent_sampler": optuna.samplers.RandomSampler(seed=seed),
        }
    return {"seed": seed, "place": place or 0} if name == "CmaEsSampler" else {"seed": seed}


_OWN_CLASSES: dict[str, type[BaseSampler]] = {
    "CmaEsSampler": _PlacedCmaEs,
    "QMCSampler": PlacedQmc,
    "TPESampler": ThinnedTpe,
}


def _class_of(name: str) -> type[BaseSampler]:
    """Return a class of optuna.samplers, or the user's by its dotted path.

    Raises:
        ConfigError: where there is none, or it is no sampler.
    """
    if name == PRIOR:
        return PriorSampler
    if "." not in name:
        sampler: type[BaseSampler] = getattr(optuna.samplers, name)
        return sampler
    try:
        found = get_class(name)
    except Exception as error:  # whatever importing the user's module raises
        reason = " ".join(str(error).split())
        raise ConfigError(f"hydra.sweeper.sampler._target_={name}: {reason}") from error
    if not issubclass(found, BaseSampler):
        raise ConfigError(
            f"hydra.sweeper.sampler._target_={name}: expected a subclass of "
            "optuna.samplers.BaseSampler."
        )
    return found


def _make(
    sampler_class: Callable[..., BaseSampler],
    given: Mapping[str, Any],
    allowed: Collection[str],
    seed: int,
    own: Mapping[str, Any],
) -> BaseSampler:
    with warnings.catch_warnings():  # else Optuna says for each trial what may go one day
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", ExperimentalWarning)
        built = {k: _built(k, v, allowed, seed) for k, v in given.items()}
        return sampler_class(**{**own, **built})


def _built(option: str, value: Any, allowed: Collection[str], seed: int) -> Any:
    """Make what an option describes by ``_target_``: a crossover, an independent sampler."""
    if option == "reference_points" and value is not None:
        return np.asarray(value)
    if not isinstance(value, Mapping) or "_target_" not in value:
        return value
    target = str(value["_target_"])
    if not target.startswith("optuna.samplers.") and target not in allowed:
        raise ConfigError(
            f"hydra.sweeper.sampler.{option}._target_={target}: it is not in optuna.samplers. One "
            f"of your own is run where hydra.sweeper.allow_sampler={target} says so."
        )
    made = dict(value)
    arguments = {k: v for k, v in made.items() if not k.startswith("_")}
    check_arguments(f"hydra.sweeper.sampler.{option}", get_class(target), arguments)
    if target.endswith("Sampler") and "seed" in inspect.signature(get_class(target)).parameters:
        made["seed"] = seed
    return instantiate(made, _convert_="all")


def _in_words_of_today(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as Optuna 5 calls them, without those that it ignores."""
    other = [k for k, now in _WITHOUT_EFFECT.items() if given.get(k, now) not in (now, None)]
    if other:
        _warn(
            f"hydra.sweeper.sampler: {', '.join(other)}: Optuna {optuna.__version__} has no such "
            "option any more; left out."
        )
    return {_OPTIONS_NOW_CALLED.get(k, k): v for k, v in given.items() if k not in _WITHOUT_EFFECT}


@cache
def _warn(text: str) -> None:
    if parent_process() is None:  # once a search, not once a worker
        log.warning(text)
