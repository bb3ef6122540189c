"""Warm start from a record: earlier runs in MLflow, where no storage has their study any more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from omegaconf import DictConfig

from pipeline.common.session import shared
from pipeline.config.compose import key_of
from pipeline.config.experiment import validate
from pipeline.config.flat import AUTO, OPEN, RATE, flat, read_params
from pipeline.evaluation.names import BEST_STEP
from pipeline.evaluation.score_table import FILE, score_in
from pipeline.search.searchable import SEED, PriorTrial, PriorTrials
from pipeline.search.space.dimension import Params
from pipeline.search.space.space import Space
from pipeline.search.space.transfer import read, translated
from pipeline.tasks.objective import COSTS, Constraint, Objective, constraints, objectives
from pipeline.tracking import Store
from pipeline.tracking.metrics import history
from pipeline.tracking.runs import read_json, run_of
from pipeline.tracking.trials import LoggedTrial, logged_trials, tries_of

# What does not change a run's training, by how its keys begin: scores are made anew here.
_APART = ("tracking.", "evaluation.", "training.threads")

_read = shared(maxsize=10_000)(read)  # parsing takes Hydra's parser 0.3 ms


def prior_trials(
    store: Store, config: DictConfig, digest: str, source: str, space: Space
) -> PriorTrials:
    """Return the recorded trials that differ from this search in nothing but what it searches.

    A trial on several seeds is one with the means of its runs' scores, if all of them are there.
    Config, digest of the data and space are this search's; the source is a study's name, how it
    begins, or ``*`` for all trials and runs of the experiment.

    Raises:
        TrackingError: where there is no such study.
    """
    experiment = validate(config)
    goals, limits = objectives(experiment), constraints(experiment)
    known = _fixed(config, space)
    every = _points(logged_trials(store, source))
    trials = []
    for runs in every:
        searched = _searched(runs, known, digest, space)
        if searched is None:
            continue
        scores = [_Scores(store, run) for run in runs]
        values = [fmean(one.score(goal) for one in scores) for goal in goals]
        excesses = {
            limit.text: fmean(one.excess(limit, goals[0]) for one in scores) for limit in limits
        }
        if all(math.isfinite(value) for value in (*values, *excesses.values())):
            trials.append(PriorTrial({}, searched, values, excesses))
    return PriorTrials(trials, len(every))


def _points(runs: Sequence[LoggedTrial]) -> list[list[LoggedTrial]]:
    """Return the runs of each point, its last seed's first; none where some are not there."""
    placed = ((run.point or run.run_id, run.repeat or 0, run) for run in runs)
    latest = [tries[0] for tries in tries_of(placed)]
    return [own if len(own) == own[0].repeats else [] for own in latest]


def _searched(
    runs: list[LoggedTrial], known: dict[str, Any], digest: str, space: Space
) -> dict[str, Any] | None:
    """Return a point's values of what is searched here, or None where it does not fit."""
    keys = {key for d in space.dimensions for key in d.keys}
    if not runs or (len(runs) > 1 and SEED in keys):
        return None
    *later, first = runs
    but_seed = {key: value for key, value in known.items() if key != SEED}
    if not all(run.complete and run.data in (None, digest) for run in runs) or not (
        _is_alike(first, known, space) and all(_is_alike(run, but_seed, space) for run in later)
    ):
        return None
    settings = _settings_here(first, space)
    return settings if translated({}, settings, space, {}) is not None else None


def params_here(run: LoggedTrial, space: Space) -> Params | None:
    """Return a run's parameters in a space, or None where it has none for them or others."""
    return translated({}, _settings_here(run, space), space, {})


def _settings_here(run: LoggedTrial, space: Space) -> dict[str, Any]:
    keys = {key for d in space.dimensions for key in d.keys}
    return {key: _read(run.settings[key]) for key in keys if key in run.settings}


def _fixed(config: DictConfig, space: Space) -> dict[str, Any]:
    """Return what each run of this search has in common, also within a searched group."""
    every = read_params(flat(config))
    given = {key_of(override) for override in space.fixed}
    common = space.without(every) | {key: every[key] for key in given if key in every}
    apart = {key for key, undecided in OPEN.items() if common.get(key) == undecided}
    return {k: v for k, v in common.items() if not k.startswith(_APART) and k not in apart}


def _is_alike(run: LoggedTrial, known: dict[str, Any], space: Space) -> bool:
    """Whether a run has the value of all that is fixed here."""
    for key, now in known.items():
        text, own = run.settings.get(key), str(now)
        if key == RATE and run.has_auto_rate and now == AUTO:
            continue  # by the same rule
        if text is not None and text != own and _read(text) != _read(own):
            return False
    # A searched group's file says the rest of it, unless the run was given something else.
    searched = {key for d in space.dimensions for key in d.keys}
    given = dict.fromkeys(key_of(override) for override in run.overrides)
    others = {key: None for key in given if key not in searched and key not in known}
    return space.without(others) == others


class _Scores:
    """A run's scores, made of its metrics' histories as the run itself would make them."""

    def __init__(self, store: Store, run: LoggedTrial) -> None:
        self._store = store
        self._run = run
        self._read: dict[str, dict[int, float]] = {}

    def score(self, goal: Objective) -> float:
        """Return the score by an objective; NaN where the run does not have the metric."""
        if goal.is_cost:
            return self._run.metrics.get(goal.metric, math.nan)
        history = self._history(goal.metric)
        return goal.score(list(history.values())) if history else math.nan

    def excess(self, limit: Constraint, first: Objective) -> float:
        """Return by how much a limit is broken in the evaluation that the first objective keeps."""
        if limit.metric in COSTS:
            return limit.excess(self._run.metrics.get(limit.metric, math.nan))
        steps = self._history(first.metric)
        if not steps:
            return math.nan
        kept = max(steps)
        if first.aggregation == "best":
            best = self.score(first)
            kept = next(step for step, value in steps.items() if value == best)
        return limit.excess(self._at(kept, limit.metric))

    def _at(self, step: int, metric: str) -> float:
        """Return a metric of an evaluation; the best one's may be in the run's tables only."""
        found = self._history(metric).get(step)
        if found is not None or step != self._run.metrics.get(BEST_STEP):
            return math.nan if found is None else found
        run = run_of(self._store, self._run.run_id)
        table = read_json(self._store, run, FILE.format(split="val"))
        return score_in(table, metric.removeprefix("val/")) if table else math.nan

    def _history(self, metric: str) -> dict[int, float]:
        if metric not in self._read:
            there = metric in self._run.metrics
            found = history(self._store, self._run.run_id, metric) if there else {}
            self._read[metric] = found
        return self._read[metric]
