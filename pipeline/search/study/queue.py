"""How a worker comes by its next trial, and what becomes of those whose process died."""

import itertools
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from pipeline.common.errors import ConfigError
from pipeline.search.optuna_parts import NEXT, latest, note, queued_params, take_back
from pipeline.search.space.dimension import Dimension, Params
from pipeline.search.study.liveness import Heartbeat, Watch, was_interrupted
from pipeline.search.study.study import StudySpec
from pipeline.search.study.trials import (
    ADDED,
    ATTEMPT,
    CHARGED,
    CONTINUES,
    KILLED,
    RATES,
    REASON,
    REJECTED,
    REPLACES,
    SOURCE,
    STOP,
    counted,
    params_of,
    planned,
    stage_marks,
    state_of,
)

# User attribute of the study: how many first points were queued; of a trial: which of them it is.
FIRST = "first"
# Points in a row that the filter refuses before one is drawn at random among those that pass: a
# sampler that is not told of refused points may want the same one for ever.
SAMPLER_DRAWS = 10


def queue_points(study: optuna.Study, spec: StudySpec) -> None:
    """Queue what a search, or a stage of it, begins with: its grid, or its first points."""
    if spec.is_grid:
        queue_grid(study, spec)
    queue_first(study, spec)


def queue_grid(study: optuna.Study, spec: StudySpec) -> None:
    """Queue every point of the grid that no trial holds, the first points first.

    Asking for a queued trial is atomic in every storage, so each point is claimed exactly once.
    """
    held = _held(study, spec)
    most = planned(study, spec.budget.n_trials)
    for point in spec.points():
        if len(held) >= most:
            break
        if _point(point) not in held:
            held.add(_point(point))
            _enqueue(study, spec, point)
    _unqueue_twins(study, spec)


def _unqueue_twins(study: optuna.Study, spec: StudySpec) -> None:
    """Set aside what two searches that began at once have both queued."""
    seen = set()
    for trial in counted(study, waiting=True):
        point = _own_point(trial, spec)
        if trial.state == TrialState.WAITING and point in seen:
            take_back(study, trial, KILLED)
        seen.add(point)


def queue_first(study: optuna.Study, spec: StudySpec) -> None:
    """Queue the points that a new study begins with; a grid has them already."""
    key = f"{FIRST} of stage {spec.stage}" if spec.stage else FIRST
    if spec.is_grid or study.user_attrs.get(key) is not None:
        return
    # Where an earlier start was cut short in this very place, or the space is another now. A point
    # that is given in part is known by its mark: its trial has the rest, too.
    known = {trial.user_attrs.get(FIRST) for trial in counted(study, waiting=True)}
    held = _held(study, spec)
    for point in spec.first:
        mark = repr(_point(point))
        if _point(point) not in held and mark not in known:
            held.add(_point(point))
            _enqueue(study, spec, point, {FIRST: mark})
    study.set_user_attr(key, len(spec.first))


def _enqueue(
    study: optuna.Study, spec: StudySpec, point: Params, marks: Mapping[str, str] | None = None
) -> None:
    sources = [(SOURCE, source) for params, source in spec.history if params == point]
    study.enqueue_trial(point, user_attrs={**(marks or {}), **dict(sources[:1])})


def _held(study: optuna.Study, spec: StudySpec) -> set[tuple[tuple[str, str], ...]]:
    """Return the points that trials have, have had or are queued with."""
    return {_own_point(trial, spec) for trial in counted(study, waiting=True)}


def _own_point(trial: FrozenTrial, spec: StudySpec) -> tuple[tuple[str, str], ...]:
    return _point(spec.space.own(params_of(trial)))


def settle(
    study: optuna.Study, spec: StudySpec, watch: Watch, *, is_start: bool = False
) -> list[int]:
    """Settle the trials whose process died: each is marked killed, and its point queued again.

    Any process may do this at any time: only one of several gets to tell the study. A point whose
    process died more often than ``spec.retries`` allows is a failed one. What the start of a
    command finds dead ended with its search, which is no point's doing and uses up no try.

    Returns:
        The numbers of the trials that were settled now.
    """
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    retries = None if is_start else spec.retries
    return [t.number for t in filter(watch.is_dead, running) if settle_one(study, t, retries)]


def settle_one(
    study: optuna.Study,
    dead: FrozenTrial,
    retries: int | None = None,
    why: str = "its process ended",
) -> bool:
    """Settle a trial whose process died; return whether nobody else had.

    One that a user had asked to end is pruned: its point is not tried again.

    Args:
        study: The study.
        dead: The trial.
        retries: How often a point may be tried again; without it, this death uses up no try.
        why: It died.
    """
    # Who stops a search and starts it again uses up no try of a point.
    uses_up = retries is not None and not was_interrupted(dead)
    attempt = dead.user_attrs.get(ATTEMPT, 0) + uses_up
    params = params_of(dead)
    again = retries is None or attempt <= retries
    try:
        if STOP in dead.user_attrs:
            study.tell(dead.number, state=TrialState.PRUNED)
            return True
        note(study, dead, REASON, f"killed: {why}")
        if again:
            note(study, dead, KILLED, True)
        study.tell(dead.number, state=TrialState.FAIL)
    except (UpdateFinishedTrialError, ValueError):
        return False  # another process settled it
    kept = handed_on(dead)
    if again and (params or REPLACES in kept):
        attrs = {ATTEMPT: attempt, CONTINUES: dead.number, **kept}
        study.enqueue_trial(params, user_attrs=attrs)
    return True


def handed_on(trial: FrozenTrial) -> dict[str, Any]:
    """Return the marks that a trial's point keeps when it is queued again."""
    kept = (REPLACES, ADDED, NEXT, SOURCE, FIRST)
    marks = {k: v for k, v in trial.user_attrs.items() if k in kept} | stage_marks(trial)
    is_paid = any(trial.user_attrs.get(CHARGED, {}).values())  # its job at a service is collected
    return marks | ({NEXT: True} if is_paid else {})


def claim(study: optuna.Study, spec: StudySpec, heartbeat: Heartbeat) -> Trial | None:
    """Ask for the next trial and sign it, or return None where there is none to begin.

    A point that the filter refuses is marked rejected: it uses up nothing, and another is drawn.

    Raises:
        ConfigError: where the filter leaves (almost) nothing of the space, or the sampler fails.
    """
    for asked in itertools.count(1):
        trial = _ask(study, spec, heartbeat)
        if trial is None or spec.space.allows(trial.params):
            return trial
        # Told as a failure, which samplers leave out: they are to learn from scores alone.
        trial.set_user_attr(REJECTED, True)
        rejected = latest(study, trial)
        given = queued_params(rejected) or {}
        study.tell(trial, state=TrialState.FAIL)
        heartbeat.release(trial)
        if given or asked >= SAMPLER_DRAWS:
            drawn = spec.space.draw(given, f"{spec.seed}:{trial.number}")
            study.enqueue_trial(drawn, user_attrs=handed_on(rejected))
    raise AssertionError


def _ask(study: optuna.Study, spec: StudySpec, heartbeat: Heartbeat) -> Trial | None:
    while True:
        queued = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        most = planned(study, spec.budget.n_trials)
        if len(counted(study)) >= most or (spec.is_grid and not queued):
            return None
        try:
            trial = study.ask(fixed_distributions=spec.space.unconditional)
        except (TypeError, ValueError, ArithmeticError, AssertionError) as error:
            _take_back(study)
            name = str(spec.sampler.get("_target_", "auto")).rpartition(".")[2]
            why = f"{type(error).__name__}: {error}"
            raise ConfigError(
                f"hydra.sweeper.sampler: {name} cannot propose a trial with these options: {why}"
            ) from error
        heartbeat.sign(trial)
        if not _is_surplus(study, spec, trial):
            break
        trial.set_user_attr(KILLED, True)
        study.tell(trial, state=TrialState.FAIL)
        heartbeat.release(trial)
    trial.set_user_attr(RATES, asdict(spec.budget.rates))
    while dimension := spec.space.opened(trial.params):
        _suggest(trial, dimension)
    return trial


def _take_back(study: optuna.Study) -> None:
    """End the trial that a sampler was asked for and failed at: no worker has signed it."""
    number = getattr(study.sampler, "asked", None)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.number == number:
            note(study, trial, REJECTED, True)
            study.tell(number, state=TrialState.FAIL)


def _is_surplus(study: optuna.Study, spec: StudySpec, trial: Trial) -> bool:
    """Whether another worker took the last point, this point or the last place since we looked."""
    asked = latest(study, trial)
    earlier = [t for t in counted(study, waiting=True) if t.number < trial.number]
    if not spec.is_grid:
        first = asked.user_attrs.get(FIRST)  # several workers that come to a stage may queue it
        most = planned(study, spec.budget.n_trials)
        begun = sum(t.state != TrialState.WAITING for t in earlier)
        is_twin = first is not None and any(t.user_attrs.get(FIRST) == first for t in earlier)
        return begun >= most or is_twin
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
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return any(state_of(t) == "running" for t in running)


def is_done(study: optuna.Study, spec: StudySpec) -> bool:
    """Whether as many trials as asked for have ended."""
    most = planned(study, spec.budget.n_trials)
    return sum(t.state.is_finished() for t in counted(study)) >= most


def _point(params: Params) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, repr(value)) for key, value in params.items()))
