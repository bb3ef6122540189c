"""The sweeper: reads the space, checks it, opens the study, starts workers, says how it ended."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
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
from pipeline.errors import ConfigError, TunewrightError, did_you_mean
from pipeline.search.blocks import Base, enrich
from pipeline.search.failures import hopeless
from pipeline.search.liveness import Watch
from pipeline.search.options import Options
from pipeline.search.progress import Progress, describe, summary_lines, trial_table
from pipeline.search.pruners import PauseAndPromote
from pipeline.search.samplers import GRID, make_sampler, sampler_name
from pipeline.search.searchable import Searchable
from pipeline.search.space import Space, parse_space
from pipeline.search.study import (
    StudySpec,
    check_same,
    directions_of,
    is_done,
    mend_journal,
    queue_first,
    queue_grid,
    settle,
)
from pipeline.search.supervisor import LOOK_SECONDS, Supervisor
from pipeline.search.sweeps import space_text
from pipeline.search.trials import REASON, best_first, ended, state_of
from pipeline.search.warm import sources_of, warm_start
from pipeline.search.worker import Worker

log = logging.getLogger(__name__)

LINE_WIDTH = 240  # of tables that do not go to a terminal
MOST_POINTS = 10_000  # of a grid
DEFAULT_TRIALS = 20  # of an infinite space, where n_trials is null


class SearchFailedError(TunewrightError):
    """A larger share of the trials failed than ``max_failure_rate`` allows, or all did."""

    exit_code = 1


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
        content = self._task.prepare(probes)
        spec = replace(spec, name=self._name(base, spec, content))
        with open_dict(self._config):
            self._config.hydra.sweeper.study_name = spec.name
        storage = spec.storage or str(
            Path(self._config.hydra.sweep.dir, "study.journal").absolute()
        )
        spec = replace(spec, storage=storage)

        mend_journal(spec.storage)
        study = spec.open()
        check_same(study, _fingerprint(base, spec, content))
        settle(study, spec, Watch())
        known = {**flatten(_tree(base)), **self._choices}
        warm = warm_start(study, space, sources_of(self._options.warm_start), spec.storage, known)
        if spec.is_grid:
            queue_grid(study, spec)
        queue_first(study, spec)
        self._say_plan(study, spec)
        for line in warm:
            self._console.print(line, highlight=False, soft_wrap=True)
        self._task.begin(base, spec)
        try:
            with Supervisor(spec, self._task) as supervisor, Progress(spec, self._console):
                self._work(study, spec, supervisor)
        finally:
            self._task.end(study, spec)
        self._say_end(study, spec)
        return study

    def _work(self, study: optuna.Study, spec: StudySpec, supervisor: Supervisor) -> None:
        """Launch workers until the search is over; again where all of them died before that."""
        while not is_done(study, spec) and self._why_over(study, spec) is None:
            before = len(ended(study))
            error = self._launch(spec)
            supervisor.look()
            while study.get_trials(
                deepcopy=False, states=(TrialState.RUNNING,)
            ):  # a worker on another machine; it is done, or seen to be dead
                time.sleep(LOOK_SECONDS)
            if len(ended(study)) == before:
                if error is not None:
                    raise error
                return
            if error is not None and not is_done(study, spec):
                log.warning("a worker ended early; started again", exc_info=error)

    def _why_over(self, study: optuna.Study, spec: StudySpec) -> str | None:
        return hopeless(study, spec.max_failure_rate) or spec.budget.exhausted(study)

    def _space(self, arguments: list[str]) -> Space:
        params = self._options.params or {}
        configured = [f"{key}={space_text(value)}" for key, value in params.items()]
        space = parse_space([*configured, *arguments], self._context.config_loader)
        base = Base(partial(self._context.config_loader.load_sweep_config, self._config), space)
        self._choices = base.choices
        return enrich(space, self._options, base)

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
        size = space.size if name == GRID and not space.infinite else None
        if name == GRID and size is None:
            raise ConfigError(
                f"hydra/sweeper/sampler=grid: {space.infinite[0]} has infinitely many values; a "
                "grid needs choice(…) or range(…), or take the sampler random, tpe or gp."
            )
        if name == GRID and size is not None and size > MOST_POINTS:
            raise ConfigError(
                f"hydra/sweeper/sampler=grid: the grid has {size:,} points; expected at most "
                f"{MOST_POINTS:,}. Take the sampler random, tpe or gp."
            )
        n_trials = options.n_trials or (size if name == GRID and size else DEFAULT_TRIALS)
        if name == GRID and size is not None:
            n_trials = min(n_trials, size)
        direction = options.direction
        directions = self._task.directions(base) if direction is None else directions_of(direction)
        seed = options.sampler.get("seed")
        metric = options.pruner.get("metric")
        minutes = options.trial_minutes
        spec = StudySpec(
            name="",
            storage=options.storage or "",
            directions=directions,
            space=space,
            sampler=options.sampler,
            pruner=options.pruner,
            reported=self._task.reported(base, metric) if metric else directions[0],
            unit=self._task.unit,
            seed=secrets.randbits(31) if seed is None else int(seed),
            budget=options.limits(n_trials),
            max_failure_rate=float(options.max_failure_rate),
            retries=options.retries,
            trial_seconds=None if minutes is None else 60.0 * minutes,
        )
        make_sampler(options.sampler, space, spec.seed)  # refuses wrong options now
        if name == "CmaEsSampler" and len(directions) > 1:
            raise ConfigError(
                "hydra/sweeper/sampler=cmaes: it follows one objective; expected tpe, gp or nsgaii."
            )
        if options.custom_search_space:
            _method(options.custom_search_space)  # refuses what is not there now
        pauses = isinstance(spec.make_pruner(), PauseAndPromote)
        if pauses and not (self._task.can_pause and options.isolation == "worker"):
            raise ConfigError(
                "hydra/sweeper/pruner=promote: a paused trial waits in its worker's memory; "
                "expected hydra.sweeper.isolation=worker, and a task of tunewright."
            )
        return spec

    def _name(self, base: DictConfig, spec: StudySpec, content: Mapping[str, str]) -> str:
        """Return the name that is given, or the job's and a digest of what makes it this study."""
        if self._options.study_name:
            return _checked_name(self._options.study_name)
        options = {"sampler": dict(spec.sampler), "pruner": dict(spec.pruner)}
        whole = {**_fingerprint(base, spec, content), **options}
        if self._options.warm_start:
            whole["warm_start"] = sources_of(self._options.warm_start)
        text = json.dumps(whole, sort_keys=True, default=str)
        digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
        return _checked_name(f"{self._config.hydra.job.name}-{digest}")

    def _launch(self, spec: StudySpec) -> Exception | None:
        """Launch the workers and wait for them; return what one raised that is no trial's error."""
        extend = None
        if self._options.custom_search_space:
            extend = _method(self._options.custom_search_space)
        isolated = self._options.isolation == "trial"
        worker = Worker(spec, self._context, self._config, self._task, isolated, extend)
        _leave_memory_to_ray(self._config)
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self._context, task_function=worker, config=self._config
        )
        names = [f"hydra.sweeper.study_name='{spec.name}'"]
        jobs = [
            [*names, f"hydra.sweep.subdir=workers/{number}"]
            for number in range(self._workers(spec))
        ]
        try:
            for job in launcher.launch(jobs, initial_job_idx=0):
                _ = job.return_value  # raises what a worker raised
        except Exception as error:
            return error
        return None

    def _workers(self, spec: StudySpec) -> int:
        return min(self._options.n_jobs, spec.budget.n_trials)

    def _say_plan(self, study: optuna.Study, spec: StudySpec) -> None:
        say = self._console.print
        done, n_trials = len(ended(study)), spec.budget.n_trials
        points = f"a grid of {spec.space.size} points, " if spec.is_grid else ""
        name = sampler_name(spec.sampler, spec.space)
        workers = f", {self._workers(spec)} workers" if self._workers(spec) > 1 else ""
        again = f"; {done} done before, {max(n_trials - done, 0)} to go" if done else ""
        say(
            f"study {spec.name}: {points}{n_trials} trials by {name}{workers}{again}",
            highlight=False,
            soft_wrap=True,
        )
        for key, values in spec.space.describe().items():
            say(f"  {key}: {values}", highlight=False, soft_wrap=True)

    def _say_end(self, study: optuna.Study, spec: StudySpec) -> None:
        say = partial(self._console.print, highlight=False, soft_wrap=True)
        ranked = best_first(study)
        _write_results(study, spec, Path(self._config.hydra.sweep.dir))
        others = sorted(ended(study, "pruned", "failed"), key=lambda t: (state_of(t), t.number))
        self._console.print(trial_table(spec, [*ranked, *others]))
        for line in summary_lines(study, spec):
            say(line)
        why = self._why_over(study, spec)
        if not ranked or hopeless(study, spec.max_failure_rate):
            failed = [str(t.user_attrs.get(REASON)) for t in ended(study, "failed")]
            reasons = f" The first that failed: {failed[0]}" if failed else ""
            raise SearchFailedError(
                f"study {spec.name}: {why or f'no trial is complete.{reasons}'}"
            )
        if why and not is_done(study, spec):
            say(f"stopped: {why}; the same command goes on.")
        say(f"best: trial {ranked[0].number}, {describe(ranked[0], spec)}")
        began = psutil.Process().create_time()
        for line in self._task.hints(study, began, self._workers(spec)):
            say(line)


def _leave_memory_to_ray(config: DictConfig) -> None:
    # hydra-ray-launcher sets the memory of every Ray; a cluster that runs refuses to be told.
    init = OmegaConf.select(config, "hydra.launcher.ray.init")
    if init is not None and (init.get("address") or os.environ.get("RAY_ADDRESS")):
        with open_dict(init):
            init.setdefault("object_store_memory", None)


def _fingerprint(base: DictConfig, spec: StudySpec, content: Mapping[str, str]) -> dict[str, Any]:
    """Return what all trials of a study have in common, flat, so that a difference has a name."""
    config = spec.space.without(flatten(_tree(base)))
    fixed = {k: v for k, v in config.items() if not k.startswith("tracking.")}
    searched = {"search space": spec.space.describe(), "direction": list(spec.directions)}
    return {**fixed, **searched, **content}


def _method(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"hydra.sweeper.custom_search_space={path}: cannot be imported: {error}."
        ) from error


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


def _write_results(study: optuna.Study, spec: StudySpec, folder: Path) -> None:
    """Write ``optimization_results.yaml`` as the official plugin does."""
    ranked = best_first(study)
    if not ranked:
        return
    results: dict[str, Any] = {"name": "optuna"}
    if len(study.directions) == 1:
        params = spec.space.settings(ranked[0].params)
        results |= {"best_params": params, "best_value": ranked[0].value}
    else:
        own = [t for t in study.best_trials if state_of(t) == "complete"]
        front = [{"params": spec.space.settings(t.params), "values": t.values} for t in own]
        results |= {"solutions": front}
    OmegaConf.save(OmegaConf.create(results), folder / "optimization_results.yaml")
