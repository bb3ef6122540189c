"""The study: where it is kept, how a worker comes by its next trial, what becomes of dead ones."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner, NopPruner
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from pipeline.errors import ConfigError, TrackingError
from pipeline.search.budget import Budget
from pipeline.search.liveness import Heart, Watch
from pipeline.search.pruners import Pruner, make_pruner
from pipeline.search.samplers import GRID, make_sampler, sampler_name
from pipeline.search.space import Params, Space
from pipeline.search.trials import (
    ATTEMPT,
    KILLED,
    REASON,
    counted,
    params_of,
    state_of,
)
from pipeline.tasks.base import Direction

_FINGERPRINT = "fingerprint"  # user attribute of the study: what its trials have in common


@dataclass(frozen=True)
class StudySpec:
    """All that a worker needs to take part in a study; small, plain and picklable."""

    name: str
    storage: str  # path of a journal file, or a database URL
    directions: tuple[Direction, ...]
    space: Space
    sampler: Mapping[str, Any] = field(hash=False)
    pruner: Mapping[str, Any] = field(hash=False)
    reported: Direction  # of the score that trials report on the way
    unit: int  # steps that a trial reports for one unit of its budget
    seed: int
    budget: Budget
    max_failure_rate: float
    retries: int  # how often a point is begun again whose process died
    trial_seconds: float | None  # how long one trial may take

    @property
    def is_grid(self) -> bool:
        """Whether the points are the space's grid."""
        return sampler_name(self.sampler, self.space) == GRID

    def make_pruner(self) -> Pruner:
        """Make the study's pruner; every process has its own."""
        return make_pruner(self.pruner, self.unit)

    def open(self) -> optuna.Study:
        """Open the study; it is made where it is not there yet.

        Raises:
            TrackingError: where the storage cannot be opened.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        pruner = self.make_pruner()
        try:
            return optuna.create_study(
                study_name=self.name,
                storage=_open_storage(self.storage),
                sampler=make_sampler(self.sampler, self.space, self.seed),
                # Where Optuna has a pruner that splits a study, its samplers must know.
                pruner=pruner if isinstance(pruner, BasePruner) else NopPruner(),
                directions=list(self.directions),
                load_if_exists=True,
            )
        except (OSError, ValueError, ImportError, SQLAlchemyError) as error:
            reason = " ".join(str(error).split())[:300]
            raise TrackingError(
                f"hydra.sweeper.storage={self.storage}: the study cannot be opened: {reason}"
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


def queue_grid(study: optuna.Study, spec: StudySpec) -> None:
    """Queue every point of the grid that no trial holds.

    Asking for a queued trial is atomic in every storage, so each point is claimed exactly once.
    """
    held = {_point(params_of(t)) for t in counted(study, waiting=True)}
    for point in spec.space.grid():
        if len(held) >= spec.budget.n_trials:
            break
        if _point(point) not in held:
            held.add(_point(point))
            study.enqueue_trial(point)


def settle(study: optuna.Study, spec: StudySpec, watch: Watch) -> list[int]:
    """Settle the trials whose process died: each is marked killed, and its point queued again.

    Any process may do this at any time: only one of several gets to tell the study. A point whose
    process died more often than ``spec.retries`` allows is a failed one.

    Returns:
        The numbers of the trials that were settled now.
    """
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [t.number for t in running if watch.is_dead(t) and _settle(study, spec, t)]


def _settle(study: optuna.Study, spec: StudySpec, dead: FrozenTrial) -> bool:
    attempt = dead.user_attrs.get(ATTEMPT, 0)
    again = attempt < spec.retries and dead.params
    trial_id, storage = dead._trial_id, study._storage
    try:
        storage.set_trial_user_attr(trial_id, REASON, "killed: its process ended")
        if again:
            storage.set_trial_user_attr(trial_id, KILLED, True)
        study.tell(dead.number, state=TrialState.FAIL)
    except (UpdateFinishedTrialError, ValueError):
        return False  # another process settled it
    if again:
        study.enqueue_trial(dead.params, user_attrs={ATTEMPT: attempt + 1})
    return True


def claim(study: optuna.Study, spec: StudySpec, heart: Heart) -> Trial | None:
    """Ask for the next trial and sign it, or return None where there is none to begin."""
    queued = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    if len(counted(study)) >= spec.budget.n_trials or (spec.is_grid and not queued):
        return None
    trial = study.ask(fixed_distributions=spec.space.distributions)
    heart.sign(trial)
    # Another worker may have taken the last point, or the last place, since we looked.
    earlier = [t for t in counted(study) if t.number < trial.number]
    drawn = "fixed_params" not in study.get_trials(deepcopy=False)[trial.number].system_attrs
    if len(earlier) >= spec.budget.n_trials or (spec.is_grid and drawn):
        trial.set_user_attr(KILLED, True)
        study.tell(trial, state=TrialState.FAIL)
        heart.release(trial)
        return None
    return trial


def is_busy(study: optuna.Study) -> bool:
    """Whether some trial is running somewhere, so that there may be work yet."""
    return any(state_of(t) == "running" for t in study.get_trials(deepcopy=False))


def is_done(study: optuna.Study, spec: StudySpec) -> bool:
    """Whether as many trials as asked for have ended."""
    return sum(t.state.is_finished() for t in counted(study)) >= spec.budget.n_trials


def _point(params: Params) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, repr(value)) for key, value in params.items()))


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
