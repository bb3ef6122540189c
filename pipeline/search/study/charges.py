"""What a provider's service takes for trials: noted with them, within the study's budget."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.trial import Trial, TrialState

from pipeline.common.errors import SearchStopped
from pipeline.search.optuna_parts import latest
from pipeline.search.study.budget import Budget, used
from pipeline.search.study.trials import ASKS, CHARGED, NEEDED

_LOOK_SECONDS = 0.1  # between two looks at what other workers ask for
_WAIT_SECONDS = 120.0  # for the answer of a later trial: its process may have died


def note(study: optuna.Study, trial: Trial, run: str, usd: float) -> None:
    """Note what a run of a trial has cost, or is going to, in the place of what was noted."""
    known = latest(study, trial).user_attrs.get(CHARGED, {})
    trial.set_user_attr(CHARGED, {**known, run: usd})


def ask(
    study: optuna.Study,
    trial: Trial,
    budget: Budget,
    run: str,
    usd: float,
    check: Callable[[], None],
) -> None:
    """Ask for the money for a run, and note it.

    Workers may ask at the same time. Each says first what it asks for; who has the lower number is
    given it first, and waits for the others only where they may just have been given too much.

    Args:
        study: the whole one.
        trial: that the run is of.
        budget: of the study.
        run: its mark.
        usd: what it is forecast to cost.
        check: raises where the trial is to end; called while others are waited for.

    Raises:
        SearchStopped: where there is no room: the trial is left for a start with a larger budget.
    """
    trial.set_user_attr(ASKS, {run: usd})
    end = time.monotonic() + _WAIT_SECONDS
    while (room := _room(study, trial.number, budget)) is None and time.monotonic() < end:
        time.sleep(_LOOK_SECONDS)
        check()
    if room:
        note(study, trial, run, usd)
    study.set_user_attr(NEEDED, 0.0 if room else usd)
    trial.set_user_attr(ASKS, {})
    if not room:
        raise SearchStopped(
            f"hydra.sweeper.budget.usd={budget.usd:g} has no room for a trial of {usd:.3g} USD"
        )


def _room(study: optuna.Study, number: int, budget: Budget) -> bool | None:
    """Whether there is room for a trial; None: that depends on later ones, who do not know yet."""
    if budget.usd is None:
        return True
    left = budget.usd - used(study, budget.rates).usd
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    asked = {trial.number: _open(trial.user_attrs) for trial in running}
    for other, usd in asked.items():
        if other < number and usd <= left:  # it is given that
            left -= usd
    own, later = asked.get(number, 0.0), (usd for other, usd in asked.items() if other > number)
    if own > left:
        return False
    return True if own + sum(usd for usd in later if usd <= left) <= left else None


def _open(marks: Mapping[str, Any]) -> float:
    """Return what a trial asks for and was not given yet."""
    given = marks.get(CHARGED, {})
    return sum(float(usd) for run, usd in marks.get(ASKS, {}).items() if run not in given)
