"""How much a search may spend, and when it has had enough."""

import time
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial

from pipeline.search.cost import FREE, Rates
from pipeline.search.optuna_parts import whole_of
from pipeline.search.study.trials import (
    PAUSED_SINCE,
    RAN,
    WAITED,
    best_first,
    ended,
    state_of,
    tries,
)


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
            used = self._used_up(machine_seconds(whole_of(study)))
            if used is not None:
                return used
        if self.patience is not None and (ranked := best_first(study)):
            since = [t for t in ended(study, "complete", "pruned") if t.number > ranked[0].number]
            if len(since) >= self.patience:
                return (
                    f"hydra.sweeper.budget.patience: {len(since)} trials since trial "
                    f"{ranked[0].number} were no better"
                )
        return None

    def _used_up(self, seconds: float) -> str | None:
        kwh = self.rates.kwh(seconds)
        usd = self.rates.usd(seconds, kwh)
        if self.machine_seconds is not None and seconds >= self.machine_seconds:
            return f"hydra.sweeper.budget.machine_minutes are used up ({seconds / 60:.1f})"
        if self.kwh is not None and kwh >= self.kwh:
            return f"hydra.sweeper.budget.kwh are used up ({kwh:.3g}, by the stated power)"
        if self.usd is not None and usd >= self.usd:
            return f"hydra.sweeper.budget.usd are used up ({usd:.2f}, by the table of prices)"
        return None


def machine_seconds(study: optuna.Study) -> float:
    """Return how long all tries of the study ran together, those that still run included.

    Of a try whose process was killed before it could say so, it is not known.
    """
    return sum(
        seconds_of(t) for t in tries(study) if state_of(t) != "killed" or RAN in t.user_attrs
    )


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
