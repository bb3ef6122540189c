"""How much a search may spend, and when it has had enough."""

import time
from dataclasses import dataclass
from itertools import chain

import optuna
from optuna.trial import FrozenTrial, TrialState

from pipeline.search.cost import FREE, Rates
from pipeline.search.optuna_parts import whole_of
from pipeline.search.study.trials import (
    CHARGED,
    NEEDED,
    PAUSED_SINCE,
    RAN,
    RATES,
    WAITED,
    best_first,
    ended,
    state_of,
    tries,
    tries_before,
)


@dataclass(frozen=True)
class Used:
    """What the tries of a study took together, by the stated power and prices."""

    seconds: float
    kwh: float
    usd: float


@dataclass(frozen=True)
class Budget:
    """The limits of a search; the first that is reached ends it."""

    n_trials: int  # in all, over every start of the study
    stop_at: float | None = None  # time.time() after which no trial begins
    machine_seconds: float | None = None  # of all trials together
    patience: float | None = None  # complete or pruned trials since the best one, of one stage
    kwh: float | None = None  # of all trials, as the stated power of a worker has it
    usd: float | None = None  # likewise
    rates: Rates = FREE  # what a worker draws and costs

    def exhausted(self, study: optuna.Study) -> str | None:
        """Say which limit keeps the next trial from beginning, or None; n_trials is not asked.

        Of a study with stages, ``study`` is the part of the current one.
        """
        if self.stop_at is not None and time.time() >= self.stop_at:
            return "hydra.sweeper.budget.minutes are used up"
        if any(limit is not None for limit in (self.machine_seconds, self.kwh, self.usd)):
            whole = whole_of(study)
            needed = whole.user_attrs.get(NEEDED, 0.0)
            reason = self._used_up(used(whole, self.rates), needed, is_paid=_waits_paid(whole))
            if reason is not None:
                return reason
        if self.patience is not None and (ranked := best_first(study)):
            since = [t for t in ended(study, "complete", "pruned") if t.number > ranked[0].number]
            if len(since) >= self.patience:
                return (
                    f"hydra.sweeper.budget.patience: {len(since)} trials since trial "
                    f"{ranked[0].number} were no better"
                )
        return None

    def _used_up(self, spent: Used, needed: float, *, is_paid: bool) -> str | None:
        """Say which limit is reached, or would be by what a trial needs.

        Money is none where a trial waits that is paid: its killed try has a job at a service.
        """
        if self.machine_seconds is not None and spent.seconds >= self.machine_seconds:
            return f"hydra.sweeper.budget.machine_minutes are used up ({spent.seconds / 60:.1f})"
        if self.kwh is not None and spent.kwh >= self.kwh:
            return f"hydra.sweeper.budget.kwh are used up ({spent.kwh:.3g}, by the stated power)"
        if self.usd is None or is_paid:
            return None
        if spent.usd >= self.usd:
            return f"hydra.sweeper.budget.usd are used up ({spent.usd:.2f}, by the prices)"
        if needed and spent.usd + needed > self.usd:
            return (
                f"hydra.sweeper.budget.usd={self.usd:g} has no room for a trial of {needed:.3g} "
                f"USD: {spent.usd:.3g} are used up"
            )
        return None


def _waits_paid(study: optuna.Study) -> bool:
    """Whether a trial is queued of whose tries one was charged for; it is the next."""
    trials = study.get_trials(deepcopy=False)
    waiting = (t.user_attrs for t in trials if t.state == TrialState.WAITING)
    before = chain.from_iterable(tries_before(marks, trials) for marks in waiting)
    return any(any(one.user_attrs.get(CHARGED, {}).values()) for one in before)


def used(study: optuna.Study, rates: Rates) -> Used:
    """Return what all tries of the study took together, those that still run included.

    Each counts by the rates of the worker that ran it; by those given where it has none noted. Of a
    try whose process was killed before it could say so, nothing is known but what a provider's
    service takes for its run, which the next try goes on with.
    """
    seconds = kwh = usd = 0.0
    charged: dict[str, float] = {}
    for trial in tries(study):
        charged |= trial.user_attrs.get(CHARGED, {})
        if state_of(trial) == "killed" and RAN not in trial.user_attrs:
            continue
        own = Rates(**trial.user_attrs[RATES]) if RATES in trial.user_attrs else rates
        ran = seconds_of(trial)
        seconds, kwh = seconds + ran, kwh + own.kwh(ran)
        usd += own.usd(ran, own.kwh(ran))
    return Used(seconds, kwh, usd + sum(charged.values()))


def seconds_of(trial: FrozenTrial) -> float:
    """Return how long a trial ran, or has run so far, without its pauses.

    It is the time of its runs in MLflow, where it has some and is over.
    """
    if trial.datetime_start is None:
        return 0.0
    if trial.datetime_complete and RAN in trial.user_attrs:
        return float(trial.user_attrs[RAN])
    end = trial.datetime_complete.timestamp() if trial.datetime_complete else time.time()
    end = float(trial.user_attrs.get(PAUSED_SINCE) or end)
    return end - trial.datetime_start.timestamp() - float(trial.user_attrs.get(WAITED, 0.0))
