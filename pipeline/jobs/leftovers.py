"""What crashes leave behind outside of any study: runs of their own, checkpoints, folders."""

from __future__ import annotations

import glob
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.common.errors import TrackingError
from pipeline.common.process import is_gone
from pipeline.common.secrets import masked
from pipeline.search.study.storage import seek_study
from pipeline.search.study.warm_start import JOURNAL
from pipeline.tracking import Store, logged, studies, tags
from pipeline.tracking.dead_runs import close_killed
from pipeline.tracking.kept_models import MODEL_FOLDER
from pipeline.tracking.runs import own_runs, process_of
from pipeline.training.run_folders import drop, folder_of, has_job, has_states, left_in


@dataclass(frozen=True)
class Defect:
    """Something that a crash left behind, or that cannot be judged from here."""

    place: str
    wrong: str
    remedy: str = ""  # what the fix does, or what is left to the user
    fix: Callable[[], object] | None = None  # gives False where somebody else was faster
    left_alone: bool = False  # it may well be healthy


def single_runs(store: Store) -> Iterator[Defect]:
    """Look at the runs that are part of no study, and at their output folders."""
    over = set()
    for run in own_runs(store):
        gone, place = is_gone(process_of(run)), f"run {run.info.run_id}"
        # An older run is called after its folder.
        output = run.data.tags.get(tags.OUTPUT, run.info.run_name)
        if run.info.status != "RUNNING":
            over.add(output)
        elif gone:
            over.add(output)
            wrong = "is RUNNING in MLflow, but its process is gone"
            fix = partial(close_killed, store, run.info.run_id)
            yield Defect(place, wrong, "closed as killed", fix)
        elif gone is None:
            whose = process_of(run).get("host", "one that signed nothing")
            yield Defect(place, f"is of another machine, {whose}", left_alone=True)
    for folder in sorted(store.dir.glob(f"outputs/*/*/{MODEL_FOLDER}")):
        if over & {store.relative(folder.parent), folder.parent.name}:
            yield unsaved_model(folder)


def checkpoints(store: Store) -> Iterator[Defect]:
    """Look at the states on disk that no living process is at."""
    for run_id in left_in(store.dir):
        place, states = f"checkpoints of run {run_id}", folder_of(store.dir, run_id)
        try:
            run = logged.find_run(store, run_id)
        except TrackingError:
            yield Defect(place, f"{masked(store.uri)} has no such run", left_alone=True)
            continue
        is_single, state = run.data.tags[tags.KIND] == "run", run.data.tags.get(tags.STATE)
        if has_job(states) and not is_single:  # its study lets go of it
            wrong = "its job at a service is paid, or at work: its search goes on with it"
            if state == "pruned":
                wrong = (
                    "its trial was ended; its job at a service may be at work: doctor provider=…"
                )
            yield Defect(place, wrong, left_alone=True)
        elif state in ("complete", "pruned"):
            yield Defect(place, "the run is over", "deleted", partial(drop, states))
        elif not has_states(states):
            continue  # a lock alone: who resumes the run takes it
        elif is_single:
            yield Defect(place, f"`tunewright resume {run_id}` resumes it", left_alone=True)
        else:
            yield Defect(place, "the search resumes it when it is run again", left_alone=True)


def unsaved_model(folder: Path) -> Defect:
    """Return what a folder of a model that was being saved is."""
    wrong = "a model on its way to MLflow, left by a crash"
    return Defect(f"folder {folder}", wrong, "deleted", partial(shutil.rmtree, folder))


def orphans(store: Store, name: str | None) -> list[Defect]:
    """Return the studies' folders that no run in MLflow, of any experiment, belongs to."""
    pattern = "*" if name is None else glob.escape(name)
    folders = [journal.parent for journal in sorted(store.dir.glob(f"studies/{pattern}/{JOURNAL}"))]
    known = studies.names_everywhere(store) if folders else set()
    return [_orphan(folder) for folder in folders if folder.name not in known]


def _orphan(folder: Path) -> Defect:
    """Return what a study's folder without a run is: rubbish, where all its trials ended."""
    place, wrong = f"folder {folder}", "a study without a run in MLflow"
    journal = folder / JOURNAL
    try:
        study = seek_study(folder.name, str(journal))
        # A journal of something else, as of a study whose folder was renamed, is somebody's work.
        is_open = (
            any(not trial.state.is_finished() for trial in study.trials)
            if study
            else journal.stat().st_size > 0
        )
    except TrackingError:
        is_open = True
    if not is_open:
        wrong += ", in which nothing is left to do; it may be deleted"
        return Defect(place, wrong, left_alone=True)
    return Defect(place, wrong, "the command that began it continues it; or delete the folder")
