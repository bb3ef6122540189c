"""The study: where its trials are kept, which of them count, and who is running which."""

import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import psutil
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, Trial, TrialState

from pipeline.errors import ConfigError, TrackingError
from pipeline.search.samplers import GRID, KILLED, make_sampler, sampler_name
from pipeline.search.space import Params, Space
from pipeline.tasks.base import Direction

REASON = "reason"  # user attribute: why a trial failed
_OWNER = "owner"  # user attribute: the process that runs a trial
_FINGERPRINT = "fingerprint"  # user attribute of the study: what its trials have in common
_OWNERLESS_SECONDS = 2.0  # a trial that nobody has signed for this long has no process


@dataclass(frozen=True)
class StudySpec:
    """All that a worker needs to take part in a study; small, plain and picklable."""

    name: str
    storage: str  # path of a journal file, or a database URL
    directions: tuple[Direction, ...]
    space: Space
    sampler: Mapping[str, Any] = field(hash=False)
    n_trials: int
    seed: int
    max_failure_rate: float

    @property
    def is_grid(self) -> bool:
        """Whether the points are the space's grid."""
        return sampler_name(self.sampler, self.space) == GRID

    def open(self) -> optuna.Study:
        """Open the study; it is made where it is not there yet.

        Raises:
            TrackingError: where the storage cannot be opened.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            return optuna.create_study(
                study_name=self.name,
                storage=_open_storage(self.storage),
                sampler=make_sampler(self.sampler, self.space, self.seed),
                pruner=optuna.pruners.NopPruner(),
                directions=list(self.directions),
                load_if_exists=True,
            )
        except (OSError, ValueError, ImportError) as error:
            raise TrackingError(
                f"hydra.sweeper.storage={self.storage}: the study cannot be opened: {error}"
            ) from error


def _open_storage(storage: str) -> str | BaseStorage:
    if "://" in storage:
        return storage
    path = Path(storage)
    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))


def mend_journal(storage: str) -> None:
    """Cut a torn last line off a journal: what a power cut left would make it unreadable."""
    path = Path(storage)
    if "://" not in storage and path.is_file():
        lock = JournalFileSymlinkLock(storage)  # of the workers that may be writing now
        lock.acquire()
        try:
            with path.open("rb+") as file:
                content = file.read()
                if not content.endswith(b"\n"):
                    file.truncate(content.rfind(b"\n") + 1)
        finally:
            lock.release()


def check_same(study: optuna.Study, fingerprint: Mapping[str, Any]) -> None:
    """Refuse to continue a study that was made with another config or space.

    Raises:
        ConfigError: naming the first thing that differs.
    """
    former = study.user_attrs.get(_FINGERPRINT)
    if former is None:
        study.set_user_attr(_FINGERPRINT, json.loads(json.dumps(fingerprint)))
        return
    now = json.loads(json.dumps(fingerprint))
    for key in sorted(former.keys() | now.keys()):
        if former.get(key) != now.get(key):
            raise ConfigError(
                f"hydra.sweeper.study_name={study.study_name}: this study was begun with "
                f"{key}={former.get(key)!r}, found {now.get(key)!r}. Give the former value to "
                "continue it, or another study_name."
            )


def settle(study: optuna.Study, spec: StudySpec) -> list[int]:
    """Take over from processes that died: mark their trials, queue their parameters again.

    For a grid every point that no trial holds is queued, so each is claimed exactly once: asking
    for a queued trial is atomic in every storage.

    Returns:
        The numbers of all trials so far whose process died.
    """
    dead = [
        t
        for t in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if not _is_alive(t)
    ]
    for trial in dead:
        Trial(study, trial._trial_id).set_user_attr(KILLED, True)
        study.tell(trial.number, state=TrialState.FAIL)
        if not spec.is_grid:
            study.enqueue_trial(trial.params)
    if spec.is_grid:
        held = {_point(_params(t)) for t in counted(study, waiting=True)}
        for point in spec.space.grid():
            if len(held) >= spec.n_trials:
                break
            if _point(point) not in held:
                held.add(_point(point))
                study.enqueue_trial(point)
    every = study.get_trials(deepcopy=False)
    return [t.number for t in every if t.user_attrs.get(KILLED, False)]


def claim(study: optuna.Study, spec: StudySpec) -> Trial | None:
    """Ask for the next trial and sign it, or return None when the budget is used up."""
    queued = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    if len(counted(study)) >= spec.n_trials or (spec.is_grid and not queued):
        return None
    trial = study.ask(fixed_distributions=spec.space.distributions)
    trial.set_user_attr(_OWNER, _identity(os.getpid()))
    # Another worker may have taken the last point, or the last place, since we looked.
    earlier = [t for t in counted(study) if t.number < trial.number]
    drawn = "fixed_params" not in study.get_trials(deepcopy=False)[trial.number].system_attrs
    if len(earlier) >= spec.n_trials or (spec.is_grid and drawn):
        trial.set_user_attr(KILLED, True)
        study.tell(trial, state=TrialState.FAIL)
        return None
    return trial


def counted(study: optuna.Study, *, waiting: bool = False) -> list[FrozenTrial]:
    """Return the trials that use up the budget: all but the killed, and the queued unless asked."""
    return [
        t
        for t in study.get_trials(deepcopy=False)
        if not t.user_attrs.get(KILLED, False) and (waiting or t.state != TrialState.WAITING)
    ]


def finished(study: optuna.Study, state: TrialState | None = None) -> list[FrozenTrial]:
    """Return the trials that ended by themselves, all or those of one state."""
    return [t for t in counted(study) if t.state.is_finished() and state in (None, t.state)]


def too_many_failed(study: optuna.Study, spec: StudySpec) -> bool:
    """Whether a larger share of the finished trials failed than the user allows."""
    ended = finished(study)
    failed = sum(t.state == TrialState.FAIL for t in ended)
    return bool(ended) and failed / len(ended) > spec.max_failure_rate


def is_best(study: optuna.Study, score: float) -> bool:
    """Whether a score beats every complete trial's, by the first objective."""
    sign = 1.0 if study.directions[0] == optuna.study.StudyDirection.MAXIMIZE else -1.0
    complete = finished(study, TrialState.COMPLETE)
    return all(sign * score > sign * t.values[0] for t in complete)


def best_first(study: optuna.Study) -> list[FrozenTrial]:
    """Return the complete trials by the first objective, of equals the earlier first."""
    sign = -1.0 if study.directions[0] == optuna.study.StudyDirection.MAXIMIZE else 1.0
    complete = finished(study, TrialState.COMPLETE)
    return sorted(complete, key=lambda t: (sign * t.values[0], t.number))


def _params(trial: FrozenTrial) -> Params:
    """Return a trial's parameters; a queued one has them in its system attributes."""
    params: Params = trial.params or trial.system_attrs.get("fixed_params", {})
    return params


def _point(params: Params) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, repr(value)) for key, value in params.items()))


def _identity(pid: int) -> dict[str, Any]:
    # The start time tells a process from a later one with the same number.
    return {
        "host": socket.gethostname(),
        "pid": pid,
        "started": round(psutil.Process(pid).create_time(), 1),
    }


def _is_alive(trial: FrozenTrial) -> bool:
    owner = trial.user_attrs.get(_OWNER)
    if owner is None:
        assert trial.datetime_start is not None
        return time.time() - trial.datetime_start.timestamp() < _OWNERLESS_SECONDS
    if owner["host"] != socket.gethostname():
        return True  # cannot be known from here
    try:
        return bool(_identity(owner["pid"]) == owner)
    except psutil.NoSuchProcess:
        return False


def directions_of(direction: Any) -> tuple[Direction, ...]:
    """Read the official plugin's ``direction``: one, or a list of them.

    Raises:
        ConfigError: for anything but minimize and maximize.
    """
    given: Sequence[Any] = [direction] if isinstance(direction, str) else list(direction)
    for one in given:
        if one not in ("minimize", "maximize"):
            raise ConfigError(
                f"hydra.sweeper.direction={one}: expected minimize or maximize, or a list of them."
            )
    return tuple(given)
