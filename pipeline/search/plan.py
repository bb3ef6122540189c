"""What a search is to do, read from its options and space: its spec, its name, its fingerprint."""

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

from omegaconf import DictConfig
from optuna.distributions import IntDistribution

from pipeline.common.errors import ConfigError
from pipeline.config.flat import flatten, tree
from pipeline.config.hydra_parts import BASIC_LAUNCHER
from pipeline.search.arguments import check_arguments
from pipeline.search.options import MOST_PROCESSES, Options
from pipeline.search.pruners import PauseAndPromote
from pipeline.search.samplers import GRID, PRIOR, make_sampler, sampler_name, seed_of
from pipeline.search.searchable import SEED, Searchable
from pipeline.search.space.space import Space
from pipeline.search.space.stages import PLACE, StagedSpace
from pipeline.search.study.study import SPACE, StudySpec
from pipeline.search.study.warm_start import sources_of
from pipeline.search.workers.launcher import Launcher
from pipeline.search.workers.sizing import AUTO, WorkerPlan, choose, cores, this_machine

MOST_POINTS = 10_000  # of a grid
NOT_IN_NAMES = "/\\'\"`\n*?[]"  # characters that a study's folder cannot have, or a shell reads
MOST_LISTED = 1_000_000  # of a range
DEFAULT_TRIALS = 20  # of an infinite space, where n_trials is null
_ONE_OBJECTIVE = {"CmaEsSampler": "cmaes", PRIOR: "prior"}
_LEARNS_NOTHING = (GRID, "RandomSampler", "QMCSampler", "BruteForceSampler")
# Launchers by the module of their class.
_HERE = "hydra_plugins.tunewright"
_JOBLIB = "hydra_plugins.hydra_joblib_launcher"


def make_spec(options: Options, space: Space, base: DictConfig, task: Searchable) -> StudySpec:
    """Make a study's spec; its name is not known yet.

    Raises:
        ConfigError: for options that do not go with each other, the space or the task.
    """
    if isinstance(space, StagedSpace):
        return _staged_spec(options, space, base, task)
    name = sampler_name(options.sampler, space)
    direction = options.direction
    if direction is None:
        directions = task.directions(base)
    else:
        directions = (direction,) if isinstance(direction, str) else tuple(direction)
    seed, keys = seed_of(options.sampler), [key for d in space.dimensions for key in d.keys]
    metric = options.pruner.get("metric")
    minutes = options.trial_minutes
    spec = StudySpec(
        name="",
        storage=options.storage or "",
        directions=directions,
        space=space,
        sampler=options.sampler,
        pruner=options.pruner,
        reported=task.reported(base, metric) if metric else directions[0],
        unit=task.unit,
        seed=secrets.randbits(31) if seed is None else seed,
        budget=options.limits(_n_trials(options, space, name), charges=task.charges(base, keys)),
        max_failure_rate=float(options.max_failure_rate),
        retries=options.retries,
        trial_seconds=None if minutes is None else 60.0 * minutes,
        seeds=_seeds(options, space, base),
    )
    if name == "GPSampler":
        _check_listed(space)
    make_sampler(options.sampler, space, spec.seed)  # refuses wrong options now
    if name in _ONE_OBJECTIVE and len(directions) > 1:
        raise ConfigError(
            f"hydra/sweeper/sampler={_ONE_OBJECTIVE[name]}: it follows one objective; expected "
            "tpe, gp or nsgaii."
        )
    if options.custom_search_space:
        method(options.custom_search_space)  # refuses what is not there now
    pauses = isinstance(spec.make_pruner(), PauseAndPromote)
    if pauses and not (task.can_pause and options.isolation == "worker"):
        raise ConfigError(
            "hydra/sweeper/pruner=promote: a paused trial waits in its worker's memory; "
            "expected hydra.sweeper.isolation=worker, and a task of tunewright."
        )
    return spec


def _staged_spec(
    options: Options, space: StagedSpace, base: DictConfig, task: Searchable
) -> StudySpec:
    """Make the spec of a study with stages: its trials are those of all stages."""
    stages = []
    for stage in space.stages:
        own = replace(options, n_trials=stage.n_trials or options.n_trials)
        spec = make_spec(own, space.standing_in(stage), base, task)
        stages.append(replace(stage, n_trials=spec.budget.n_trials))
    if len(spec.directions) > 1:
        raise ConfigError(
            f"{PLACE}: a stage begins from the best trial, and of several objectives no trial is "
            "the best in all; expected one objective. evaluation.constraints can limit others."
        )
    budget = replace(spec.budget, n_trials=sum(one.n_trials or 0 for one in stages))
    return replace(spec, space=replace(space, stages=tuple(stages)), budget=budget)


def check_workers(options: Options, launcher: DictConfig) -> None:
    """Refuse a choice that is ours, where the workers are not on this machine.

    Raises:
        ConfigError: for a launcher that puts them elsewhere, and wrong options of our own one.
    """
    target = str(launcher.get("_target_"))
    if target.startswith(_HERE):
        given = {str(k): v for k, v in launcher.items() if not str(k).startswith("_")}
        check_arguments("hydra.launcher", Launcher, given, most=MOST_PROCESSES)
    if options.n_jobs == AUTO and not is_here(launcher):
        raise ConfigError(
            f"hydra.sweeper.n_jobs={AUTO}: it is chosen by the cores, memory and GPUs of this "
            f"machine, but {target.rpartition('.')[2]} starts workers where that cannot be seen; "
            "expected a whole number from 1, such as hydra.sweeper.n_jobs=8."
        )


def is_here(launcher: DictConfig) -> bool:
    """Whether a launcher starts its workers on this machine."""
    return str(launcher.get("_target_")).startswith((_HERE, BASIC_LAUNCHER, _JOBLIB))


def plan_workers(
    options: Options, launcher: DictConfig, spec: StudySpec, left: int, footprint: Callable[[], int]
) -> WorkerPlan:
    """Say how many workers a search has: what was asked for, or what the machine is good for.

    ``left`` trials may begin yet; ``footprint`` tells the bytes that a worker needs.
    """
    if isinstance(options.n_jobs, int):
        return WorkerPlan(min(options.n_jobs, spec.most_at_once))
    target = str(launcher.get("_target_"))
    if target.startswith(BASIC_LAUNCHER):
        return WorkerPlan(1, "this launcher runs them one after the other")
    if target.startswith(_JOBLIB):
        return WorkerPlan(max(1, min(cores(), left)), f"{cores()} cores")
    per_gpu = launcher.get("workers_per_gpu")
    return choose(
        this_machine(),
        footprint(),
        left,
        learns=sampler_name(spec.sampler, spec.space) not in _LEARNS_NOTHING,
        threads=launcher.get("threads"),
        per_gpu=None if per_gpu == AUTO else per_gpu,
    )


def _seeds(options: Options, space: Space, base: DictConfig) -> tuple[int, ...]:
    if options.repeats == 1:
        return ()
    first = base.get(SEED)
    if not isinstance(first, int) or any(SEED in d.keys for d in space.dimensions):
        raise ConfigError(
            f"hydra.sweeper.repeats={options.repeats}: each point is run on as many values of the "
            f"key {SEED}, from the config's own; expected a config where it is a whole number, and "
            "a space without it."
        )
    return tuple(range(first, first + options.repeats))


def _n_trials(options: Options, space: Space, sampler: str) -> int:
    if sampler != GRID:
        return options.n_trials or DEFAULT_TRIALS
    if space.infinite:
        raise ConfigError(
            f"hydra/sweeper/sampler=grid: {space.infinite[0]} has infinitely many values; a "
            "grid needs choice(…) or range(…), or take the sampler random, tpe or gp."
        )
    size = space.size
    if size > MOST_POINTS:
        raise ConfigError(
            f"hydra/sweeper/sampler=grid: the grid has {size:,} points; expected at most "
            f"{MOST_POINTS:,}. Narrow the ranges or widen their steps, or take the sampler "
            "random or tpe with hydra.sweeper.n_trials."
        )
    return min(options.n_trials or size, size)


def _check_listed(space: Space) -> None:
    """Refuse a range that the Gaussian process, which lists its values, cannot hold."""
    for d in space.dimensions:
        whole = d.distribution if isinstance(d.distribution, IntDistribution) else None
        count = d.count() or (whole.high - whole.low + 1 if whole else 0)
        if count > MOST_LISTED:
            raise ConfigError(
                f"hydra/sweeper/sampler=gp: {d.key} has {count:,} values, which it lists; expected "
                f"at most {MOST_LISTED:,}, an interval of floats, or the sampler tpe or random."
            )


def method(path: str) -> Any:
    """Import the function of ``custom_search_space``.

    Raises:
        ConfigError: where it cannot be imported.
    """
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"hydra.sweeper.custom_search_space={path}: cannot be imported: {error}."
        ) from error


def fingerprint(
    base: DictConfig, spec: StudySpec, content: Mapping[str, str], task: Searchable
) -> dict[str, Any]:
    """Return what all trials of a study have in common, flat, so that a difference has a name."""
    whole = task.migrated(flatten(tree(base)))
    config = spec.space.without(whole)
    # Given for what lies in a searched group, it is the same whichever file is chosen.
    config |= {key: whole[key] for key in whole if key in spec.space.fixed_keys}
    fixed = {k: v for k, v in config.items() if not k.startswith("tracking.")}
    searched: dict[str, Any] = {
        SPACE: spec.space.describe(),
        "direction": list(spec.directions),
    }
    if isinstance(spec.space, StagedSpace):
        searched["stages"] = spec.space.notes()
    repeats = {"repeats": len(spec.seeds)} if spec.seeds else {}
    return {**fixed, **searched, **repeats, **content}


def study_name(options: Options, job: str, spec: StudySpec, common: Mapping[str, Any]) -> str:
    """Return the name that is given, or the job's and a digest of what makes it this study.

    Raises:
        ConfigError: for a name that no folder can have.
    """
    name = options.study_name
    if not name:
        whole = {**common, "sampler": dict(spec.sampler), "pruner": dict(spec.pruner)}
        if options.warm_start:
            whole["warm_start"] = sources_of(options.warm_start)
        text = json.dumps(whole, sort_keys=True, default=str)
        name = f"{job}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"
    if any(sign in name for sign in NOT_IN_NAMES) or name in (".", ".."):
        raise ConfigError(
            f"hydra.sweeper.study_name={name!r}: a study's folder has its name; expected letters, "
            "digits, spaces and -_. only."
        )
    return name
