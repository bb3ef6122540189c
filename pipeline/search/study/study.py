"""The study: where it is kept, how a worker comes by its next trial, what becomes of dead ones."""

import itertools
import json
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import OptunaError, UpdateFinishedTrialError
from optuna.pruners import BasePruner, NopPruner
from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import create_engine, inspect, make_url
from sqlalchemy.exc import (
    IntegrityError,
    NoSuchModuleError,
    ProgrammingError,
    SQLAlchemyError,
)

from pipeline.common.contract import Direction
from pipeline.common.errors import TrackingError
from pipeline.common.secrets import MASK, masked
from pipeline.search.optuna_parts import (
    is_journal_line,
    latest,
    note,
    queued_params,
    take_back,
)
from pipeline.search.pruners import Pruner, make_pruner
from pipeline.search.samplers import GRID, make_sampler, sampler_name
from pipeline.search.space.space import Dimension, Params, Space
from pipeline.search.study.budget import Budget
from pipeline.search.study.liveness import Heartbeat, Watch, was_interrupted
from pipeline.search.study.trials import (
    ATTEMPT,
    CONTINUES,
    KILLED,
    REASON,
    REJECTED,
    REPLACES,
    counted,
    params_of,
    state_of,
)

FINGERPRINT = "fingerprint"  # user attribute of the study: what its trials have in common
FIRST = "first"  # user attribute of the study: how many first points were queued
# Points in a row that the filter refuses before one is drawn at random among those that pass: a
# sampler that is not told of refused points may want the same one for ever.
SAMPLER_DRAWS = 10

TABLES_SECONDS = 2.0  # in which another process makes the tables of an empty database
DRIVERS = (
    ". Expected postgresql+psycopg://… (pip install 'tunewright[postgres]') or mysql+pymysql://… "
    "(pip install 'tunewright[mysql]'), or the driver that the URL names."
)


# What Optuna raises of a journal or a database that is damaged, locked or no study's.
_UNREADABLE = (
    *(KeyError, TypeError, AssertionError, ValueError, AttributeError),
    *(OSError, ImportError, SQLAlchemyError),
)


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
    seeds: tuple[int, ...] = ()  # that each point is run on; none: on the config's own

    @property
    def naming(self) -> str:
        """The override by which a job's config names the study, as the sweep's own does."""
        return f"hydra.sweeper.study_name='{self.name}'"

    @property
    def is_grid(self) -> bool:
        """Whether the points are the space's grid."""
        return sampler_name(self.sampler, self.space) == GRID

    @property
    def prunes(self) -> bool:
        """Whether trials may end early."""
        return not isinstance(self.make_pruner(), NopPruner)

    def points(self) -> Iterator[Params]:
        """Yield the grid's points in the order in which they are to be run, as many as may be."""
        shuffled = self.sampler.get("shuffle", False)
        every = self.space.grid(random.Random(self.seed) if shuffled else None)
        return itertools.islice(every, self.budget.n_trials)

    def make_pruner(self) -> Pruner:
        """Make the study's pruner; every process has its own."""
        return make_pruner(self.pruner, self.unit)

    def open(self, storage: BaseStorage | None = None) -> optuna.Study:
        """Open the study, or one like it in another storage; it is made where it is not there yet.

        Raises:
            TrackingError: where the storage cannot be opened.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        pruner = self.make_pruner()
        try:
            return optuna.create_study(
                study_name=self.name,
                storage=storage or open_storage(self.storage),
                sampler=make_sampler(self.sampler, self.space, self.seed),
                # Where Optuna has a pruner that splits a study, its samplers must know.
                pruner=pruner if isinstance(pruner, BasePruner) else NopPruner(),
                directions=list(self.directions),
                load_if_exists=True,
            )
        except (*_UNREADABLE, OptunaError) as error:
            reason = damage(self.storage, self.name) or masked(str(error.__cause__ or error))
            reason = " ".join(reason.split())[:400]
            missing = isinstance(error, ImportError | NoSuchModuleError)
            raise TrackingError(
                f"hydra.sweeper.storage={masked(self.storage)}: the study cannot be opened: "
                f"{reason}{DRIVERS if missing else ''}"
            ) from error


def open_storage(storage: str) -> BaseStorage:
    """Open a journal, whose folder is made, or a database, whose tables are."""
    if "://" not in storage:
        path = Path(storage)
        path.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(path)))
    try:
        return get_storage(storage)
    except (IntegrityError, ProgrammingError):
        # Two that begin on an empty database at once both make its tables, and one of them fails.
        time.sleep(TABLES_SECONDS)
        return get_storage(storage)


def find_study(name: str, storage: str) -> optuna.Study:
    """Open a study that is there; looking for it makes nothing.

    Args:
        name: the study's.
        storage: as its parent run in MLflow names it, or the user.

    Raises:
        TrackingError: where it is not there, cannot be read, or its secrets are not known.
    """
    if not storage or MASK in unquote(storage):
        raise TrackingError(
            f"{name}: its parent run does not say how to open its storage"
            f"{f' ({storage}: secrets are not kept)' if storage else ''}. Give it: "
            "hydra.sweeper.storage=…"
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        file = _file_of(storage)
        if file is not None and not file.is_file():
            raise FileNotFoundError("there is no such file")
        backend = storage if "://" in storage else JournalStorage(JournalFileBackend(storage))
        return optuna.load_study(study_name=name, storage=backend)
    except (*_UNREADABLE, OptunaError) as error:
        moved = f"{masked(str(error))}. Is it elsewhere now? Give hydra.sweeper.storage=…"
        reason = " ".join((damage(storage, name) or moved).split())[:400]
        raise TrackingError(
            f"{name}: the study cannot be opened in {masked(storage)}: {reason}"
        ) from error


def damage(storage: str, name: str) -> str:
    """Say at which line a journal cannot be read, and what is left; nothing where it can be."""
    if "://" in storage or not Path(storage).is_file():
        return ""
    lines = Path(storage).read_bytes().splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            known = is_journal_line(json.loads(line))
        except ValueError:
            known = False
        if not known:
            return (
                f"line {number} of the journal is damaged. What MLflow has of the study can be "
                f"learned from in a new one: hydra.sweeper.warm_start=mlflow:{name}"
            )
    return ""


def seek_study(name: str, storage: str) -> optuna.Study | None:
    """Open a study, or return None where it is not there yet; looking for it makes nothing.

    Raises:
        TrackingError: where the storage is there and cannot be read.
    """
    try:
        if "://" in storage and not _has_tables(storage):
            return None
        return find_study(name, storage)
    except TrackingError as error:
        missing = isinstance(error.__cause__, KeyError | FileNotFoundError)
        if missing and not damage(storage, name):
            return None
        raise


def _has_tables(storage: str) -> bool:
    """Whether a database has Optuna's tables, which opening it would make."""
    file = _file_of(storage)
    if file is not None and not file.is_file():
        return False
    try:
        engine = create_engine(storage)
        try:
            return inspect(engine).has_table("studies")
        finally:
            engine.dispose()
    except (ImportError, SQLAlchemyError):
        return True  # opening it says what is wrong


def _file_of(storage: str) -> Path | None:
    if "://" not in storage:
        return Path(storage)
    url = make_url(storage)
    if url.query.get("uri"):  # SQLite's own form: the file's name is in there
        return None
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def is_torn(storage: str) -> bool:
    """Whether a storage is a journal whose last line was cut off by a crash."""
    path = Path(storage)
    if "://" in storage or not path.is_file() or path.read_bytes()[-1:] in (b"", b"\n"):
        return False
    lock = JournalFileSymlinkLock(storage)  # a line that is being written has no end yet
    lock.acquire()
    try:
        return path.read_bytes()[-1:] not in (b"", b"\n")
    finally:
        lock.release()


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


def queue_grid(study: optuna.Study, spec: StudySpec) -> None:
    """Queue every point of the grid that no trial holds, the first points first.

    Asking for a queued trial is atomic in every storage, so each point is claimed exactly once.
    """
    held = _held(study, spec)
    for point in spec.points():
        if len(held) >= spec.budget.n_trials:
            break
        if _point(point) not in held:
            held.add(_point(point))
            study.enqueue_trial(point)
    _unqueue_twins(study, spec)


def _unqueue_twins(study: optuna.Study, spec: StudySpec) -> None:
    """Set aside what two searches that began at once have both queued."""
    seen = set()
    for trial in counted(study, waiting=True):
        point = _own_point(trial, spec)
        if trial.state == TrialState.WAITING and point in seen:
            unqueue(study, trial)
        seen.add(point)


def unqueue(study: optuna.Study, trial: FrozenTrial) -> None:
    """Set a queued trial aside, unless somebody has just begun it."""
    take_back(study, trial, KILLED)


def queue_first(study: optuna.Study, spec: StudySpec) -> None:
    """Queue the points that a new study begins with; a grid has them already."""
    if spec.is_grid or study.user_attrs.get(FIRST) is not None:
        return
    held = _held(study, spec)  # where an earlier start was cut short in this very place
    for point in spec.space.first:
        if _point(point) not in held:
            study.enqueue_trial(point)
    study.set_user_attr(FIRST, len(spec.space.first))


def _held(study: optuna.Study, spec: StudySpec) -> set[tuple[tuple[str, str], ...]]:
    """Return the points that trials have, have had or are queued with."""
    return {_own_point(trial, spec) for trial in counted(study, waiting=True)}


def _own_point(trial: FrozenTrial, spec: StudySpec) -> tuple[tuple[str, str], ...]:
    own = spec.space.distributions.keys()
    return _point({key: value for key, value in params_of(trial).items() if key in own})


def settle(study: optuna.Study, spec: StudySpec, watch: Watch) -> list[int]:
    """Settle the trials whose process died: each is marked killed, and its point queued again.

    Any process may do this at any time: only one of several gets to tell the study. A point whose
    process died more often than ``spec.retries`` allows is a failed one.

    Returns:
        The numbers of the trials that were settled now.
    """
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [t.number for t in running if watch.is_dead(t) and settle_one(study, t, spec.retries)]


def settle_one(study: optuna.Study, dead: FrozenTrial, retries: int) -> bool:
    """Settle a trial whose process died; return whether nobody else had."""
    # Who stops a search and starts it again uses up no try of a point.
    attempt = dead.user_attrs.get(ATTEMPT, 0) + (0 if was_interrupted(dead) else 1)
    params = params_of(dead)
    again = attempt <= retries
    try:
        note(study, dead, REASON, "killed: its process ended")
        if again:
            note(study, dead, KILLED, True)
        study.tell(dead.number, state=TrialState.FAIL)
    except (UpdateFinishedTrialError, ValueError):
        return False  # another process settled it
    replaces = {k: v for k, v in dead.user_attrs.items() if k == REPLACES}
    if again and (params or replaces):
        attrs = {ATTEMPT: attempt, CONTINUES: dead.number, **replaces}
        study.enqueue_trial(params, user_attrs=attrs)
    return True


def claim(study: optuna.Study, spec: StudySpec, heartbeat: Heartbeat) -> Trial | None:
    """Ask for the next trial and sign it, or return None where there is none to begin.

    A point that the filter refuses is marked rejected: it uses up nothing, and another is drawn.

    Raises:
        ConfigError: where the filter leaves (almost) nothing of the space.
    """
    for asked in itertools.count(1):
        trial = _ask(study, spec, heartbeat)
        if trial is None or spec.space.allows(trial.params):
            return trial
        # Told as a failure, which samplers leave out: they are to learn from scores alone.
        trial.set_user_attr(REJECTED, True)
        given = queued_params(latest(study, trial)) or {}
        study.tell(trial, state=TrialState.FAIL)
        heartbeat.release(trial)
        if given or asked >= SAMPLER_DRAWS:
            study.enqueue_trial(spec.space.draw(given, f"{spec.seed}:{trial.number}"))
    raise AssertionError


def _ask(study: optuna.Study, spec: StudySpec, heartbeat: Heartbeat) -> Trial | None:
    while True:
        queued = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if len(counted(study)) >= spec.budget.n_trials or (spec.is_grid and not queued):
            return None
        trial = study.ask(fixed_distributions=spec.space.unconditional)
        heartbeat.sign(trial)
        if not _is_surplus(study, spec, trial):
            break
        trial.set_user_attr(KILLED, True)
        study.tell(trial, state=TrialState.FAIL)
        heartbeat.release(trial)
    while dimension := spec.space.opened(trial.params):
        _suggest(trial, dimension)
    return trial


def _is_surplus(study: optuna.Study, spec: StudySpec, trial: Trial) -> bool:
    """Whether another worker took the last point, this point or the last place since we looked."""
    if not spec.is_grid:
        return sum(t.number < trial.number for t in counted(study)) >= spec.budget.n_trials
    asked = latest(study, trial)
    earlier = [t for t in counted(study, waiting=True) if t.number < trial.number]
    points = {_own_point(t, spec) for t in earlier}
    return queued_params(asked) is None or _own_point(asked, spec) in points


def _suggest(trial: Trial, dimension: Dimension) -> None:
    """Have the sampler draw a parameter that earlier ones opened."""
    d = dimension.distribution
    match d:
        case CategoricalDistribution():
            trial.suggest_categorical(dimension.key, d.choices)
        case IntDistribution():
            trial.suggest_int(dimension.key, d.low, d.high, step=d.step, log=d.log)
        case FloatDistribution():
            trial.suggest_float(dimension.key, d.low, d.high, step=d.step, log=d.log)


def is_busy(study: optuna.Study) -> bool:
    """Whether some trial is running somewhere, so that there may be work yet."""
    return any(state_of(t) == "running" for t in study.get_trials(deepcopy=False))


def is_done(study: optuna.Study, spec: StudySpec) -> bool:
    """Whether as many trials as asked for have ended."""
    return sum(t.state.is_finished() for t in counted(study)) >= spec.budget.n_trials


def _point(params: Params) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, repr(value)) for key, value in params.items()))
