"""What crashes leave behind in studies, MLflow and folders: found, and repaired where that is safe.

What a living process may be at is left alone: on this machine the process table tells, of another
machine nothing is known in one look.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial, TrialState

from pipeline.common.errors import TrackingError
from pipeline.common.process import is_gone
from pipeline.common.secrets import MASK, masked
from pipeline.jobs.leftovers import (
    Defect,
    checkpoints,
    orphans,
    single_runs,
    unsaved_model,
)
from pipeline.jobs.study_record import KEEP, lost_study, name_best
from pipeline.search.study.liveness import DEAD_SECONDS, OWNER, UNSIGNED_SECONDS
from pipeline.search.study.queue import settle_one
from pipeline.search.study.storage import find_study, seek_study
from pipeline.search.study.trials import (
    RUN_ID,
    best_first,
    counted,
    kind_of_failure,
    planned,
    state_of,
    why_ended,
)
from pipeline.tracking import Store, studies, tags
from pipeline.tracking.commands import storage_of
from pipeline.tracking.dead_runs import close_killed
from pipeline.tracking.kept_models import MODEL_FOLDER, delete_model, has_model, trials_with_model
from pipeline.tracking.location import settle_in
from pipeline.tracking.logged import restore
from pipeline.tracking.runs import is_deleted, process_of, run_of, seek_run
from pipeline.tracking.trials import close_trial, trials_of

if TYPE_CHECKING:
    from pipeline.tracking.runs import Run


def treat(
    store: Store,
    name: str | None,
    storage: str | None,
    *,
    fix: bool,
    say: Callable[[str], None],
    more: Iterable[Defect] = (),
) -> int:
    """Say what is wrong, a line a defect, or that all is well; return how many defects are left.

    With ``fix`` each is fixed before the next one is looked for. A name, or its beginning, limits
    this to one study. The storage is of studies whose parent run does not name their own. ``more``
    comes first: it may cost money.

    Raises:
        TrackingError: where there is no such study.
    """
    left, is_well = 0, True
    for defect in chain(more, examine(store, name, storage)):
        is_well = False
        said = f"{defect.place}: {defect.wrong}"
        if defect.left_alone:
            say(f"{said}; left alone")
            continue
        left += 1
        if defect.fix is None:
            say(f"{said}; {defect.remedy}")
        elif not fix:
            say(f"{said}; with --fix: {defect.remedy}")
        else:
            try:
                repaired = defect.fix() is not False
            except Exception as error:  # MLflow, Optuna and each database have their own
                why = " ".join(masked(str(error)).split())[:300]
                say(f"{said}; could not be repaired: {type(error).__name__}: {why}")
            else:
                left -= 1
                done = f"repaired: {defect.remedy}" if repaired else "another process settled it"
                say(f"{said}; {done}")
    if is_well:
        say(f"{name or masked(store.uri)}: all is well, nothing is left to repair.")
    return left


def examine(store: Store, name: str | None, storage: str | None) -> Iterator[Defect]:
    """Yield what is wrong, in the order in which it is to be repaired."""
    if made := store.origin:
        wrong = f"still reads and writes in {made}, where it was made before a copy or a move"
        remedy = f"a store of its own, {made} is left alone"
        yield Defect(f"store {store.dir}", wrong, remedy, partial(settle_in, store.dir, made))
        if store.origin:
            return  # nothing else can be looked at
    folders = orphans(store, name)
    yield from folders
    if name and folders:
        return
    found = studies.all_studies(store) if name is None else [studies.find_study(store, name)]
    with_model = trials_with_model(store)
    for run in found:
        known = run.data.tags.get(tags.STORAGE, "")
        hidden = not known or MASK in known
        given = storage if storage and (hidden or name or storage == known) else None
        yield from _study(store, run, given, with_model)
    if name is None:
        yield from single_runs(store)
        yield from checkpoints(store)


def at_work(run: Run, study: optuna.Study) -> str | None:
    """Say which process is at a study now, as far as it can be seen from here."""
    if run.info.status == "RUNNING" and is_gone(process_of(run)) is False:
        return f"process {process_of(run)['pid']} of this machine"
    for trial in _running(study):
        if not _is_left(trial):
            owner = trial.user_attrs.get(OWNER, {})
            where = f" (process {owner['pid']} of {owner['host']})" if owner else ""
            return f"trial {trial.number}{where}"
    return None


def _study(store: Store, run: Run, storage: str | None, with_model: list[Run]) -> Iterator[Defect]:
    name = run.data.tags[tags.STUDY]
    place = f"study {name}"
    # Before the trials: a trial is older than its run.
    runs = trials_of(store, name, "attributes.status = 'RUNNING'")
    try:
        where = storage_of(store, run, storage)
        study = seek_study(name, where)
        lost = lost_study(store, name, study, masked(where)).removeprefix(f"{place}: ")
        if not lost and study is None:
            study = find_study(name, where)  # which says what is wrong
    except TrackingError as error:
        study, lost = None, str(error).removeprefix(f"{name}: ")
    if lost or study is None:
        yield Defect(place, lost, "nothing else was looked at")
        return
    trials = study.get_trials(deepcopy=False)
    for trial in trials:
        if trial.state == TrialState.RUNNING and _is_left(trial):
            yield _left_trial(place, study, trial)
    for trial in trials:
        if kind_of_failure(trial) == "killed" or trial.state == TrialState.RUNNING:
            runs += trials_of(store, name, f"tags.`{tags.TRIAL}` = '{trial.number}'")
    closed = set()
    for one in {one.info.run_id: one for one in runs}.values():
        number = int(one.data.tags[tags.TRIAL])
        found = _trial_run(store, place, one, trials[number] if number < len(trials) else None)
        if found:
            closed.add(one.info.run_id)
            yield found
    run = run_of(store, run.info.run_id)  # meanwhile somebody may have begun
    elsewhere = _elsewhere(run, study)
    if elsewhere:
        yield Defect(place, elsewhere, left_alone=True)
    elif at_work(run, study) is None:
        own = [one for one in with_model if one.data.tags[tags.STUDY] == name]
        rest = [one for one in own if one.info.run_id not in closed]
        yield from _over(store, place, run, study, rest)


def _left_trial(place: str, study: optuna.Study, trial: FrozenTrial) -> Defect:
    return Defect(
        f"{place}, trial {trial.number}",
        "is running in the study's storage, but its process is gone",
        "marked killed, and its point queued again",
        partial(settle_one, study, trial),
    )


def _trial_run(store: Store, place: str, run: Run, trial: FrozenTrial | None) -> Defect | None:
    """Compare a trial's run in MLflow with the trial."""
    is_open, run_id = run.info.status == "RUNNING", run.info.run_id
    where = f"{place}, run {run_id} of trial {run.data.tags[tags.TRIAL]}"
    kill = partial(close_killed, store, run_id)
    if trial is None:
        wrong = "is RUNNING in MLflow, but the study has no such trial"
        return Defect(where, wrong, "closed as killed", kill) if is_open else None
    still_there = is_gone(trial.user_attrs.get(OWNER, {})) is False
    if still_there or (trial.state == TrialState.RUNNING and not _is_left(trial)):
        return None  # its worker may be about to close it
    if trial.state == TrialState.RUNNING or kind_of_failure(trial) == "killed":
        if run.data.tags.get(tags.STATE) == "failed":
            return None
        wrong = f"is {run.info.status} in MLflow, but its process was killed"
        return Defect(where, wrong, "closed as killed", kill)
    # Read again: what was open when it was looked for may have been closed before its trial ended.
    if not is_open or run_of(store, run_id).info.status != "RUNNING":
        return None
    state, reason = state_of(trial), why_ended(trial)
    close = partial(close_trial, store, run_id, state, reason)
    wrong = f"is RUNNING in MLflow, but its trial is {state}"
    return Defect(where, wrong, f"closed as {state}", close)


def _over(
    store: Store, place: str, run: Run, study: optuna.Study, own: list[Run]
) -> Iterator[Defect]:
    """Look at what only a study that nobody is at can be told from: its best, models, its run."""
    ranked = best_first(study)
    best = ranked[0].user_attrs.get(RUN_ID) if ranked else None
    limits = json.loads(run.data.tags.get(tags.LIMITS, "{}"))
    keep = limits.get(KEEP, 1)
    if best and run.data.tags.get(tags.BEST_RUN) != best:
        wrong = f"its run does not name trial {ranked[0].number}, the best one"
        yield Defect(place, wrong, "named", partial(name_best, store, run.info.run_id, study, keep))
    if best:
        yield from _best_run(store, place, best, ranked[0].number)
    with_model = [one for one in own if has_model(store, one)]
    if best not in [one.info.run_id for one in with_model]:
        with_model = []  # the study keeps the one it has, until a best trial has its own
    stay = {trial.user_attrs.get(RUN_ID) for trial in ranked[:keep]}
    for one in with_model:
        if one.info.run_id not in stay and tags.KEPT_FOR not in one.data.tags:
            where = f"{place}, run {one.info.run_id} of trial {one.data.tags[tags.TRIAL]}"
            fix = partial(delete_model, store, one.info.run_id)
            which = "the best" if keep == 1 else f"of the best {keep}"
            wrong = f"keeps a model, but is not {which}"
            yield Defect(where, wrong, "its model is deleted", fix)
    at = store.dir / "studies" / study.study_name
    for folder in sorted(at.glob(f"*/{MODEL_FOLDER}")):
        yield unsaved_model(folder)
    if run.info.status == "RUNNING":
        over = [t for t in counted(study) if t.state.is_finished()]
        most = limits.get("n_trials")
        done = most is not None and len(over) >= planned(study, most)
        state = "unfinished" if not done else "complete" if ranked else "failed"
        wrong = "its run is RUNNING in MLflow, but no process is at it"
        fix = partial(studies.close_study, store, run.info.run_id, state, {})
        yield Defect(place, wrong, f"closed as {state}", fix)


def _best_run(store: Store, place: str, run_id: str, number: int) -> Iterator[Defect]:
    """Look for the run of a study's best trial."""
    run = seek_run(store, run_id)
    wrong = f"the run {run_id} of its best trial, {number}, was deleted in MLflow"
    if run is None:
        yield Defect(place, f"{wrong} for good; its score stays in the study", left_alone=True)
    elif is_deleted(run):
        yield Defect(place, wrong, "restored", partial(restore, store, run_id))


def _elsewhere(run: Run, study: optuna.Study) -> str | None:
    """Say what of a study runs on another machine, if anything does."""
    here = socket.gethostname()
    trials = [t for t in _running(study) if t.user_attrs.get(OWNER, {}).get("host", here) != here]
    if trials:
        numbers = ", ".join(str(t.number) for t in trials)
        return (
            f"trial {numbers}: of another machine, {trials[0].user_attrs[OWNER]['host']}; whether "
            f"it lives shows only in {DEAD_SECONDS:g} s of its beats, which the search watches"
        )
    if run.info.status == "RUNNING" and process_of(run).get("host", here) != here:
        return f"its search is of another machine, {process_of(run)['host']}"
    return None


def _running(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def _is_left(trial: FrozenTrial) -> bool:
    """Whether the process that ran a trial is known to be gone."""
    owner = trial.user_attrs.get(OWNER)
    if owner is not None:
        return bool(is_gone(owner))
    asked = trial.datetime_start
    return asked is not None and time.time() - asked.timestamp() > UNSIGNED_SECONDS
