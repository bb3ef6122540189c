"""Steering a search that runs: what a user asks of it is a mark in its storage.

So it reaches the workers of any launcher on any machine. A worker looks every `LOOK_SECONDS`, in a
thread: no step of a training waits for a storage.
"""

import logging
import threading
from collections.abc import Callable, Collection
from secrets import token_hex
from typing import Any, Self

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from pipeline.common.errors import (
    ConfigError,
    SearchStopped,
    TrialStoppedError,
    is_explained,
    listing,
)
from pipeline.search.optuna_parts import NEXT, note
from pipeline.search.space.dimension import Params, encode
from pipeline.search.space.space import Space
from pipeline.search.study.trials import ADDED, SOURCE, STOP, counted, params_of, state_of

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
BY_USER = "stopped by the user"
_NOW = "now"  # how a study is asked to stop, if its running trials are to end as well


def why_stopped(study: optuna.Study) -> str | None:
    """Say that a user stopped a study, if one did since its search last began."""
    asked = study.user_attrs.get(STOP)
    how = f"stop{' --now' if asked == _NOW else ''}"
    return f"stopped by `tunewright study {study.study_name} {how}`" if asked else None


def stop(study: optuna.Study, *, now: bool) -> None:
    """Have no further trial begin; ``now``: have the running ones end, to be begun again later."""
    study.set_user_attr(STOP, _NOW if now else "soon")


def resume(study: optuna.Study) -> None:
    """Take back that a study was stopped."""
    if study.user_attrs.get(STOP):
        study.set_user_attr(STOP, None)


def stop_trial(study: optuna.Study, number: int) -> None:
    """Have a running or paused trial end as a pruned one.

    Raises:
        ConfigError: where there is no such trial, or it is neither.
    """
    trials = study.get_trials(deepcopy=False)
    place = f"trial {number} of {study.study_name}"
    open_ones = [str(t.number) for t in trials if t.state == TrialState.RUNNING]
    expected = f"expected one that is running or paused: {listing(open_ones) or 'none is, now'}."
    if not 0 <= number < len(trials):
        known = f"it has trials 0 to {len(trials) - 1}" if trials else "it has no trials yet"
        raise ConfigError(f"{place}: there is no such trial, {known}; {expected}")
    trial = trials[number]
    if trial.state != TrialState.RUNNING:
        how = "has not begun" if trial.state == TrialState.WAITING else "is over"
        raise ConfigError(f"{place} {how} ({state_of(trial)}); {expected}")
    try:
        note(study, trial, STOP, BY_USER)
    except UpdateFinishedTrialError as error:
        raise ConfigError(f"{place} has just ended; {expected}") from error


def add(study: optuna.Study, space: Space, point: Params, *, is_grid: bool) -> FrozenTrial:
    """Queue a point of a space, or a part of one, to be begun next; return its trial.

    A sampler completes a part of a point. In a grid it is the first point that has what is given
    and that no trial has begun. What is not queued yet is one trial more than ``n_trials``.

    Raises:
        ConfigError: where each such point has been begun.
    """
    held = {_key(space.own(params_of(t))): t for t in counted(study, waiting=True)}
    fits = [p for p in space.grid() if point.items() <= p.items()] if is_grid else [point]
    for one in fits:
        trial = held.get(_key(one))
        if trial is None:
            own = token_hex(8)  # by which it is found, whoever claims it first
            marks = {NEXT: True, ADDED: own, SOURCE: "added by the user"}
            study.enqueue_trial(one, user_attrs=marks)
            trials = study.get_trials(deepcopy=False)
            return next(t for t in trials if t.user_attrs.get(ADDED) == own)
        if trial.state == TrialState.WAITING:
            try:
                note(study, trial, NEXT, True)
            except UpdateFinishedTrialError:  # begun and over since we looked
                return add(study, space, point, is_grid=is_grid)
            return trial
    has = held[_key(fits[0])]
    shown = " ".join(f"{key}={encode(value)}" for key, value in space.settings(point).items())
    many = f"each of the {len(fits)} points" if len(fits) > 1 else "the point"
    raise ConfigError(
        f"{shown}: {many} has been begun in {study.study_name}: trial {has.number} is "
        f"{state_of(has)}. `tunewright retry` runs failed ones again."
    )


def _key(params: Params) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, repr(value)) for key, value in params.items()))


class Orders:
    """Hears, while the ``with`` block lasts, what users ask of a study's running trials.

    Args:
        study: of a worker's own.
        stopped: called from the thread with the numbers of trials that are to end.
    """

    def __init__(self, study: optuna.Study, stopped: Callable[[Collection[int]], Any]) -> None:
        self._study = study
        self._told = stopped
        self._stopped: frozenset[int] = frozenset()
        self._search: str | None = None  # why all running trials are to end
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True, name="orders")

    def check(self, number: int) -> None:
        """Raise where a trial is to end.

        Raises:
            TrialStoppedError: where that was asked of this trial.
            SearchStopped: where all are to end.
        """
        if number in self._stopped:
            raise TrialStoppedError(BY_USER)
        if self._search is not None:
            raise SearchStopped(self._search)

    def look(self) -> None:
        """Look now."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        self._stopped = frozenset(t.number for t in running if STOP in t.user_attrs)
        is_now = self._study.user_attrs.get(STOP) == _NOW
        self._search = why_stopped(self._study) if is_now else None
        if self._stopped:
            self._told(self._stopped)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _listen(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            try:
                self.look()
            except Exception as error:  # as of a heartbeat: a hiccup of the storage is none of ours
                trace = not is_explained(error)
                log.warning("no trial could be steered (%s); tried again", error, exc_info=trace)
