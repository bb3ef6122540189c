"""The sweeper's node of the config: its options, as the official plugin calls them, and more."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pipeline.common.errors import ConfigError, did_you_mean, listing
from pipeline.search.cost import Prices
from pipeline.search.samplers import ALLOWED
from pipeline.search.study.budget import Budget
from pipeline.search.workers.sizing import AUTO

_HYDRA_KEYS = ("_target_", "_recursive_")
PLAN = "plan"
ON_CHANGE = ("refuse", "continue", "fork")
MOST_REPEATS = 100  # seeds of a point
LIMITS = ("minutes", "machine_minutes", "patience", "kwh", "usd")


@dataclass(frozen=True)
class Options:
    """The sweeper's node in the config; the names are the official plugin's."""

    sampler: Mapping[str, Any]
    pruner: Mapping[str, Any]
    direction: Any
    storage: str | None
    study_name: str | None
    on_change: str
    n_trials: int | None
    n_jobs: int | str  # or `AUTO`
    max_failure_rate: float
    params: Mapping[str, Any] | None
    custom_search_space: str | None
    retries: int
    trial_minutes: float | None
    isolation: str
    budget: Mapping[str, Any]
    prices: Mapping[str, Any]
    when: Mapping[str, Any] | None
    zip: Any
    filter: str | None
    first: Any
    warm_start: Any
    allow_sampler: Any
    repeats: int
    dry_run: bool | str  # or `PLAN`
    forecast: bool
    confirm: int  # seeds; 0: none

    @classmethod
    def read(cls, node: DictConfig) -> Options:
        """Take the options out of ``hydra.sweeper``.

        Raises:
            ConfigError: for an unknown option or one out of bounds.
        """
        given = OmegaConf.to_container(node, resolve=True)
        assert isinstance(given, dict)
        known = set(cls.__dataclass_fields__)
        options = {str(key): value for key, value in given.items() if key not in _HYDRA_KEYS}
        if options.pop("search_space", None):
            raise ConfigError(
                "hydra.sweeper.search_space: this form is no longer read, nor is it by "
                "hydra-optuna-sweeper 1.4; write hydra.sweeper.params, such as "
                "x: interval(-5.5, 5.5). docs/migrating.md has a table."
            )
        for name in options.keys() - known:
            raise ConfigError(
                f"hydra.sweeper.{name}: there is no such option.{did_you_mean(name, known)} "
                f"Valid: {listing(sorted(known))}."
            )
        allowed = options["allow_sampler"] or []
        names = [allowed] if isinstance(allowed, str) else list(allowed)
        if names:  # next to the class they allow, wherever it is made
            options["sampler"] = {**options["sampler"], ALLOWED: names}
        read = cls(**options)
        read.check()
        return read

    def check(self) -> None:
        """Refuse values out of bounds.

        Raises:
            ConfigError: naming the first one.
        """
        if self.storage is not None and not isinstance(self.storage, str):
            raise ConfigError(
                f"hydra.sweeper.storage={self.storage}: expected a path or a database URL."
            )
        if not _is_number(self.repeats, whole=True) or not 1 <= self.repeats <= MOST_REPEATS:
            raise ConfigError(
                f"hydra.sweeper.repeats={self.repeats}: expected a whole number from 1 to "
                f"{MOST_REPEATS}."
            )
        if not _is_number(self.confirm, whole=True) or self.confirm not in (
            0,
            *range(2, MOST_REPEATS + 1),
        ):
            raise ConfigError(
                f"hydra.sweeper.confirm={self.confirm}: expected 0, or the seeds on which the "
                f"winner is retrained at the end, 2 to {MOST_REPEATS}."
            )
        jobs: Any = self.n_jobs
        if jobs != AUTO and (not _is_number(jobs, whole=True) or jobs < 1):
            raise ConfigError(
                f"hydra.sweeper.n_jobs={jobs}: expected a whole number from 1, or {AUTO}: "
                "what this machine is good for."
            )
        for name, least in (("n_trials", 1), ("retries", 0)):
            value = getattr(self, name)
            if value is not None and (not _is_number(value, whole=True) or value < least):
                raise ConfigError(
                    f"hydra.sweeper.{name}={value}: expected a whole number from {least}."
                )
        if not _is_number(self.max_failure_rate) or not 0 <= self.max_failure_rate <= 1:
            raise ConfigError(
                f"hydra.sweeper.max_failure_rate={self.max_failure_rate}: expected 0 to 1."
            )
        for name in self.budget.keys() - set(LIMITS):
            raise ConfigError(
                f"hydra.sweeper.budget.{name}: there is no such limit."
                f"{did_you_mean(name, LIMITS)} Valid: {listing(LIMITS)}."
            )
        limits = {f"budget.{name}": self.budget.get(name) for name in LIMITS}
        for name, value in {"trial_minutes": self.trial_minutes, **limits}.items():
            if value is not None and (not _is_number(value) or value <= 0):
                raise ConfigError(f"hydra.sweeper.{name}={value}: expected a number above 0.")
        rates = Prices.read(self.prices).rates(1, 1)
        free = rates.usd(1.0, rates.kwh(1.0)) == 0
        for name, is_nothing in (("kwh", rates.watts == 0), ("usd", free)):
            if self.budget.get(name) is not None and is_nothing:
                raise ConfigError(
                    f"hydra.sweeper.budget.{name}={self.budget[name]}: nothing has a price in "
                    "hydra.sweeper.prices, so nothing would be spent; expected one above 0, such "
                    "as hydra.sweeper.prices.usd_per_core_hour=0.04."
                )
        if not isinstance(self.dry_run, bool) and self.dry_run != PLAN:
            raise ConfigError(
                f"hydra.sweeper.dry_run={self.dry_run}: expected true or false, or {PLAN}: say "
                "also what it would cost."
            )
        if not isinstance(self.forecast, bool):
            raise ConfigError(f"hydra.sweeper.forecast={self.forecast}: expected true or false.")
        if self.on_change not in ON_CHANGE:
            raise ConfigError(
                f"hydra.sweeper.on_change={self.on_change}: expected {' or '.join(ON_CHANGE)}: "
                f"what becomes of a study whose space changed."
                f"{did_you_mean(str(self.on_change), ON_CHANGE)}"
            )
        if self.isolation not in ("worker", "trial"):
            raise ConfigError(
                f"hydra.sweeper.isolation={self.isolation}: expected worker (a process for many "
                "trials) or trial (a fresh one for each)."
            )

    def limits(self, n_trials: int) -> Budget:
        """Return the budget; its minutes begin now."""
        minutes = self.budget.get("minutes")
        machine_minutes = self.budget.get("machine_minutes")
        return Budget(
            n_trials,
            stop_at=None if minutes is None else time.time() + 60 * minutes,
            machine_seconds=None if machine_minutes is None else 60 * machine_minutes,
            patience=self.budget.get("patience"),
            kwh=self.budget.get("kwh"),
            usd=self.budget.get("usd"),
        )


def _is_number(value: Any, *, whole: bool = False) -> bool:
    kinds = int if whole else int | float
    return isinstance(value, kinds) and not isinstance(value, bool)
