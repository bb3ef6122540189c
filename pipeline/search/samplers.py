"""Samplers by name, seeded for each trial from the study's seed and the trial's place."""

import hashlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from pipeline.errors import ConfigError, did_you_mean, listing
from pipeline.search.space import Space

GRID = "GridSampler"
KILLED = (
    "killed"  # user attribute of a trial whose process died; it is run again under a new number
)
# A base class, and one that ends a study from within: a grid is that without it.
_NOT_OURS = ("BaseSampler", "BruteForceSampler")


def sampler_name(options: Mapping[str, Any], space: Space) -> str:
    """Return the class of optuna.samplers that a sampler's config asks for.

    A config without ``_target_`` leaves the choice to us: a grid where every dimension is finite,
    TPE elsewhere.

    Raises:
        ConfigError: where there is no such class.
    """
    target = options.get("_target_")
    if target is None:
        return "TPESampler" if space.infinite else GRID
    prefix, _, name = str(target).rpartition(".")
    names = [n for n in optuna.samplers.__all__ if n.endswith("Sampler") and n not in _NOT_OURS]
    if prefix != "optuna.samplers" or name not in names:
        raise ConfigError(
            f"hydra.sweeper.sampler._target_={target}: there is no such class in optuna.samplers."
            f"{did_you_mean(name, names)} Valid: {listing(names, most=20)}."
        )
    return name


def make_sampler(options: Mapping[str, Any], space: Space, seed: int) -> BaseSampler:
    """Make a study's sampler from its config.

    Raises:
        ConfigError: for an option that the sampler does not have.
    """
    name = sampler_name(options, space)
    if name == GRID:
        # A grid's points are queued in the study; nothing is left to draw.
        return optuna.samplers.RandomSampler(seed=seed)
    sampler_class = getattr(optuna.samplers, name)
    accepted = inspect.signature(sampler_class).parameters
    given = {k: v for k, v in options.items() if not k.startswith("_") and k != "seed"}
    for option in given:
        if option not in accepted:
            raise ConfigError(
                f"hydra.sweeper.sampler.{option}: {name} has no such option."
                f"{did_you_mean(option, accepted)} Valid: {listing(accepted, most=20)}."
            )
    if "seed" not in accepted:
        return sampler_class(**given)  # type: ignore[no-any-return]
    return SeededSampler(lambda trial_seed: sampler_class(seed=trial_seed, **given), seed)


class SeededSampler(BaseSampler):
    """Draws each trial with a fresh sampler, seeded from (study seed, place of the trial).

    A sampler's random state is not in the storage, so a plain seeded sampler that is made again
    after a restart repeats its first draws. Seeded this way a search that was cut and continued
    proposes what the uncut one would have. Killed trials have no place: their retry takes it.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make = make
        self._seed = seed
        self._sampler = make(seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Make the sampler of this trial."""
        earlier = study.get_trials(deepcopy=False)[: trial.number]
        place = sum(not t.user_attrs.get(KILLED, False) for t in earlier)
        digest = hashlib.blake2b(f"{self._seed}:{place}".encode(), digest_size=4).digest()
        self._sampler = self._make(int.from_bytes(digest, "big"))
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Ask the trial's sampler."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Ask the trial's sampler."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Ask the trial's sampler."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Any,
    ) -> None:
        """Tell the trial's sampler."""
        self._sampler.after_trial(study, trial, state, values)
