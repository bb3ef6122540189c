"""How a running trial reports its scores, and hears whether to continue."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import optuna
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import Trial

from pipeline.common.contract import PruningDecision
from pipeline.common.errors import TrialTimeoutError
from pipeline.search.optuna_parts import as_one_objective, latest, report_step, whole_of
from pipeline.search.pruners import PauseAndPromote, Pruner
from pipeline.search.study.budget import seconds_of
from pipeline.search.study.charges import ask, note
from pipeline.search.study.steering import Orders

if TYPE_CHECKING:
    from pipeline.search.study.study import StudySpec

_current: ContextVar[Reporter | None] = ContextVar("reporter", default=None)


class Reporter:
    """Takes a trial's scores on the way and gives the pruner's verdict."""

    def __init__(
        self,
        study: optuna.Study,
        spec: StudySpec,
        pruner: Pruner,
        trial: Trial,
        orders: Orders | None = None,
    ) -> None:
        self._study = study
        self._trial = trial
        self._pruner = pruner
        self._direction = StudyDirection[spec.reported.upper()]
        self._unit = spec.unit
        self._limit = spec.trial_seconds
        self._orders = orders
        self._budget = spec.budget
        known = latest(study, trial)
        self._began = time.monotonic() - seconds_of(known)  # before a pause as well
        self.step = max(known.intermediate_values, default=-1)  # the last one that was reported
        self.judging = True  # whether scores go to the pruner; only a point's first seed is judged

    def __call__(self, score: float, spent: float) -> PruningDecision:
        """Report the score that the trial would have if it ended now.

        Args:
            score: of the first objective, or of the metric that the pruner names.
            spent: how much of its budget the trial has used, in the unit of the function under
                search: epochs for our runs.

        Raises:
            TrialTimeoutError: where the trial has had its time.
            TrialStoppedError: where a user ends it.
        """
        self.check()
        step = round(spent * self._unit)
        if not self.judging or step <= self.step:
            return "continue"  # this budget was reported before, on the way to a pause
        before, self.step = self.step, step
        report_step(self._study, self._trial, step, float(score))
        if isinstance(self._pruner, PauseAndPromote):
            climbed = self._pruner.rung(step) > self._pruner.rung(before)
            return "pause" if climbed else "continue"
        assert isinstance(self._pruner, BasePruner)
        seen = as_one_objective(self._study, self._direction)
        pruned = self._pruner.prune(seen, latest(self._study, self._trial))
        return "prune" if pruned else "continue"

    def take_over(self, earlier: Mapping[int, float]) -> None:
        """Take scores, by step, as this trial's own: those of a try that it continues."""
        for step, score in sorted(earlier.items()):
            report_step(self._study, self._trial, step, score)
            self.step = step

    def charge(self, run: str, usd: float, is_spent: bool) -> None:
        """Note what a provider's service takes for a run of this trial, see `charges.ask`.

        Raises:
            SearchStopped: where it is not spent yet, and the search's budget has no room for it.
        """
        whole = whole_of(self._study)
        if is_spent:
            note(whole, self._trial, run, usd)
        else:
            ask(whole, self._trial, self._budget, run, usd, self.check)

    def check(self) -> None:
        """Raise where the trial has had its time, or a user ends it."""
        if self._orders is not None:
            self._orders.check(self._trial.number)
        seconds = time.monotonic() - self._began
        if self._limit is not None and seconds > self._limit:
            raise TrialTimeoutError(
                f"{seconds:.0f} s, and hydra.sweeper.trial_minutes is {self._limit / 60:g}"
            )

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make this the trial that `report` speaks for."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


def report(score: float, step: float) -> None:
    """Report a score on the way from any Hydra task function; does nothing outside a search.

    Args:
        score: of the first objective.
        step: how far the trial is; trials are compared at equal steps.

    Raises:
        optuna.TrialPruned: where the pruner wants no more of this trial.
    """
    reporter = _current.get()
    if reporter is not None and reporter(score, step) == "prune":
        raise optuna.TrialPruned
