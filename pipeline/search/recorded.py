"""Warm start from a record: earlier runs in MLflow, where no storage has their study any more."""

from __future__ import annotations

import math
from typing import Any

from omegaconf import DictConfig

from pipeline.config import flat, validate
from pipeline.objective import COSTS, Constraint, Objective, constraints, objectives
from pipeline.search.fitting import read
from pipeline.search.searchable import Former, FormerTrials
from pipeline.search.space import Space
from pipeline.tracking import Store, studies

# What does not change a run's training, by how its keys begin: scores are made anew here.
_APART = ("tracking.", "evaluation.")


def former_trials(
    store: Store, config: DictConfig, digest: str, source: str, space: Space
) -> FormerTrials:
    """Return the recorded runs that differ from this search in nothing but what it searches.

    Args:
        store: where the runs are.
        config: the base of this search.
        digest: of its data.
        source: a study's name, how it begins, or ``*`` for all trials and runs of the experiment.
        space: of this search.

    Raises:
        TrackingError: where there is no such study.
    """
    experiment = validate(config)
    goals, limits = objectives(experiment), constraints(experiment)
    known = _fixed(config, space)
    every = studies.recorded(store, source)
    trials = []
    for run in every:
        if not run.complete or run.data not in (None, digest) or not _is_alike(run, known, space):
            continue
        scores = _Scores(store, run)
        values = [scores.score(goal) for goal in goals]
        excesses = {limit.text: scores.excess(limit, goals[0]) for limit in limits}
        if all(math.isfinite(value) for value in (*values, *excesses.values())):
            settings = {key: read(text) for key, text in run.settings.items()}
            trials.append(Former({}, settings, values, excesses))
    return FormerTrials(trials, len(every))


def _fixed(config: DictConfig, space: Space) -> dict[str, Any]:
    """Return what each run of this search has in common, also within a searched group."""
    every = flat(config)
    given = {studies.key_of(override) for override in space.fixed}
    common = space.without(every) | {key: every[key] for key in given if key in every}
    return {key: value for key, value in common.items() if not key.startswith(_APART)}


def _is_alike(run: studies.Recorded, known: dict[str, Any], space: Space) -> bool:
    """Whether a run has the value of all that is fixed here."""
    if any(read(run.settings.get(key, str(now))) != read(str(now)) for key, now in known.items()):
        return False
    # A searched group's file says the rest of it, unless the run was given something else.
    searched = {key for d in space.dimensions for key in d.keys}
    given = dict.fromkeys(studies.key_of(override) for override in run.overrides)
    others = {key: None for key in given if key not in searched and key not in known}
    return space.without(others) == others


class _Scores:
    """A run's scores, made of its metrics' histories as the run itself would make them."""

    def __init__(self, store: Store, run: studies.Recorded) -> None:
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
        return limit.excess(self._history(limit.metric).get(kept, math.nan))

    def _history(self, metric: str) -> dict[int, float]:
        if metric not in self._read:
            there = metric in self._run.metrics
            found = studies.history(self._store, self._run.run_id, metric) if there else {}
            self._read[metric] = found
        return self._read[metric]
