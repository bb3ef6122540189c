"""The sweeper: reads the space, checks it, opens the study, starts workers, says how it ended."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import psutil
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from optuna.trial import TrialState
from rich.console import Console

from pipeline.compose import plain_errors, without_hydra
from pipeline.config import flatten
from pipeline.errors import ConfigError, TunewrightError, did_you_mean, listing
from pipeline.search.progress import Progress, describe, summary_lines, trial_table
from pipeline.search.samplers import GRID, make_sampler, sampler_name
from pipeline.search.searchable import Searchable
from pipeline.search.space import Space, parse_space
from pipeline.search.study import (
    REASON,
    StudySpec,
    best_first,
    check_same,
    directions_of,
    finished,
    mend_journal,
    settle,
    too_many_failed,
)
from pipeline.search.sweeps import space_text
from pipeline.search.worker import Worker

_HYDRA_KEYS = ("_target_", "_recursive_")
LINE_WIDTH = 240  # of tables that do not go to a terminal
DEFAULT_TRIALS = 20  # of an infinite space, where n_trials is null


class SearchFailedError(TunewrightError):
    """A larger share of the trials failed than ``max_failure_rate`` allows, or all did."""

    exit_code = 1


@dataclass(frozen=True)
class Options:
    """The sweeper's node in the config; the names are the official plugin's."""

    sampler: Mapping[str, Any]
    direction: Any
    storage: str | None
    study_name: str | None
    n_trials: int | None
    n_jobs: int
    max_failure_rate: float
    params: Mapping[str, Any] | None
    custom_search_space: str | None

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
        for name in options.keys() - known:
            raise ConfigError(
                f"hydra.sweeper.{name}: there is no such option.{did_you_mean(name, known)} "
                f"Valid: {listing(sorted(known))}."
            )
        read = cls(**options)
        for name, least in (("n_trials", 1), ("n_jobs", 1)):
            value = getattr(read, name)
            if value is not None and (not isinstance(value, int) or value < least):
                raise ConfigError(f"hydra.sweeper.{name}={value}: expected a whole number from 1.")
        if (
            not isinstance(read.max_failure_rate, int | float)
            or not 0 <= read.max_failure_rate <= 1
        ):
            raise ConfigError(
                f"hydra.sweeper.max_failure_rate={read.max_failure_rate}: expected 0 to 1."
            )
        return read


class Sweep:
    """One call of a sweep: the same call again continues what an earlier one left."""

    def __init__(self, context: HydraContext, function: TaskFunction, config: DictConfig) -> None:
        self._context = context
        self._task = function if isinstance(function, Searchable) else Searchable(function)
        self._config = config
        self._options = Options.read(config.hydra.sweeper)
        # Lines in a file are not cut: only a terminal has a width.
        self._console = Console() if Console().is_terminal else Console(width=LINE_WIDTH)

    def run(self, arguments: list[str]) -> optuna.Study:
        """Search.

        Args:
            arguments: the command line's overrides, sweeping and fixed.

        Returns:
            The study, with at least one complete trial.

        Raises:
            ConfigError: for a space, sampler or key that cannot work, before the first trial.
            SearchFailedError: where too many trials failed.
        """
        space = self._space(arguments)
        probes = self._check(space)
        base = probes[0]
        spec = self._spec(space, base)
        with open_dict(self._config):
            self._config.hydra.sweeper.study_name = spec.name
        storage = spec.storage or str(
            Path(self._config.hydra.sweep.dir, "study.journal").absolute()
        )
        spec = replace(spec, storage=storage)

        self._task.prepare(probes)
        mend_journal(spec.storage)
        study = spec.open()
        check_same(study, _fingerprint(base, spec))
        killed = settle(study, spec)
        self._say_plan(study, spec)
        self._task.begin(base, spec, killed)
        try:
            if len(finished(study)) < spec.n_trials:
                with Progress(spec, self._console):
                    self._launch(spec)
        finally:
            self._task.end(study, spec)
        self._say_end(study, spec)
        return study

    def _space(self, arguments: list[str]) -> Space:
        params = self._options.params or {}
        configured = [f"{key}={space_text(value)}" for key, value in params.items()]
        return parse_space([*configured, *arguments], self._context.config_loader)

    def _check(self, space: Space) -> list[DictConfig]:
        """Compose and check the config with every value that must work, the base first."""
        load = self._context.config_loader.load_sweep_config
        with plain_errors():
            fixed = _tree(without_hydra(load(self._config, list(space.fixed)), resolve=False))
        nearest = partial(did_you_mean, valid=[*flatten(fixed), *fixed])
        configs = []
        for params in space.probes():
            with plain_errors(nearest):
                config = without_hydra(load(self._config, space.overrides(params)))
            self._task.check(config)
            configs.append(config)
        return configs

    def _spec(self, space: Space, base: DictConfig) -> StudySpec:
        options = self._options
        name = sampler_name(options.sampler, space)
        size = None if space.infinite else space.size
        if name == GRID and size is None:
            raise ConfigError(
                f"hydra/sweeper/sampler=grid: {space.infinite[0]} has infinitely many values; a "
                "grid needs choice(…) or range(…), or take the sampler random, tpe or gp."
            )
        n_trials = options.n_trials or (size if name == GRID and size else DEFAULT_TRIALS)
        if name == GRID and size is not None:
            n_trials = min(n_trials, size)
        direction = options.direction
        directions = self._task.directions(base) if direction is None else directions_of(direction)
        seed = options.sampler.get("seed")
        spec = StudySpec(
            name="",
            storage=options.storage or "",
            directions=directions,
            space=space,
            sampler=options.sampler,
            n_trials=n_trials,
            seed=secrets.randbits(31) if seed is None else int(seed),
            max_failure_rate=float(options.max_failure_rate),
        )
        make_sampler(options.sampler, space, spec.seed)  # refuses wrong options now
        return replace(spec, name=_checked_name(options.study_name or self._name(base, spec)))

    def _name(self, base: DictConfig, spec: StudySpec) -> str:
        """Name a study by its job and a digest of all that makes it this study."""
        content = {**_fingerprint(base, spec), "sampler": dict(spec.sampler)}
        text = json.dumps(content, sort_keys=True, default=str)
        digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
        return f"{self._config.hydra.job.name}-{digest}"

    def _launch(self, spec: StudySpec) -> None:
        extend = None
        if self._options.custom_search_space:
            from hydra.utils import get_method

            extend = get_method(self._options.custom_search_space)
        worker = Worker(spec, self._context, self._config, self._task, extend)
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self._context, task_function=worker, config=self._config
        )
        names = [f"hydra.sweeper.study_name='{spec.name}'"]
        jobs = [
            [*names, f"hydra.sweep.subdir=workers/{number}"]
            for number in range(min(self._options.n_jobs, spec.n_trials))
        ]
        for job in launcher.launch(jobs, initial_job_idx=0):
            _ = job.return_value  # raises what a worker raised

    def _say_plan(self, study: optuna.Study, spec: StudySpec) -> None:
        say = self._console.print
        done = len(finished(study))
        points = f"a grid of {spec.space.size} points, " if spec.is_grid else ""
        name = sampler_name(spec.sampler, spec.space)
        again = f"; {done} done before, {max(spec.n_trials - done, 0)} to go" if done else ""
        say(
            f"study {spec.name}: {points}{spec.n_trials} trials by {name}{again}",
            highlight=False,
            soft_wrap=True,
        )
        for key, values in spec.space.describe().items():
            say(f"  {key}: {values}", highlight=False, soft_wrap=True)

    def _say_end(self, study: optuna.Study, spec: StudySpec) -> None:
        ranked = best_first(study)
        _write_results(study, Path(self._config.hydra.sweep.dir))
        self._console.print(trial_table(spec, [*ranked, *finished(study, TrialState.FAIL)]))
        for line in summary_lines(study, spec):
            self._console.print(line, highlight=False, soft_wrap=True)
        if not ranked or too_many_failed(study, spec):
            failed = finished(study, TrialState.FAIL)
            why = failed[0].user_attrs.get(REASON, "") if failed else "no trial was run"
            raise SearchFailedError(
                f"study {spec.name}: {len(failed)} of {len(finished(study))} finished trials "
                f"failed, and hydra.sweeper.max_failure_rate is {spec.max_failure_rate:g}. "
                f"The first: {why}"
            )
        say = self._console.print
        say(
            f"best: trial {ranked[0].number}, {describe(ranked[0])}",
            highlight=False,
            soft_wrap=True,
        )
        for line in self._task.hints(study, psutil.Process().create_time()):
            say(line, highlight=False, soft_wrap=True)


def _fingerprint(base: DictConfig, spec: StudySpec) -> dict[str, Any]:
    """Return what all trials of a study have in common, flat, so that a difference has a name."""
    config = spec.space.without(flatten(_tree(base)))
    fixed = {k: v for k, v in config.items() if not k.startswith("tracking.")}
    return {**fixed, "search space": spec.space.describe(), "direction": list(spec.directions)}


def _tree(config: DictConfig) -> dict[str, Any]:
    tree = OmegaConf.to_container(config)
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


def _checked_name(name: str) -> str:
    if not name or any(sign in name for sign in "/\\'\"`\n") or name in (".", ".."):
        raise ConfigError(
            f"hydra.sweeper.study_name={name!r}: a study's folder has its name; expected letters, "
            "digits, spaces and -_. only."
        )
    return name


def _write_results(study: optuna.Study, folder: Path) -> None:
    """Write ``optimization_results.yaml`` as the official plugin does."""
    ranked = best_first(study)
    if not ranked:
        return
    results: dict[str, Any] = {"name": "optuna"}
    if len(study.directions) == 1:
        results |= {"best_params": ranked[0].params, "best_value": ranked[0].value}
    else:
        front = [{"params": t.params, "values": t.values} for t in study.best_trials]
        results |= {"solutions": front}
    OmegaConf.save(OmegaConf.create(results), folder / "optimization_results.yaml")
