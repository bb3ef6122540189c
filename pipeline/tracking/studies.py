"""Studies in MLflow: one parent run each, found by name, and its trials."""

from __future__ import annotations

import json
import logging
import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from pipeline.common.errors import TrackingError, did_you_mean, listing
from pipeline.common.process import is_gone, without_gc
from pipeline.config.compose import key_of
from pipeline.config.migrations import migrated_overrides, migrated_params
from pipeline.tracking import tags
from pipeline.tracking.location import local_path
from pipeline.tracking.record import MODEL_FOLDER as MODEL_FOLDER
from pipeline.tracking.record import log_params
from pipeline.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run as Run

log = logging.getLogger(__name__)

REGISTERED = f"{tags.PREFIX}registered"  # on a run: names of its model in the registry, as JSON
DATA = "data"  # parameter of a study: the digest of its data
_HOW_IT_IS_RUN = {
    tags.STORAGE,
    tags.JOB,
    tags.OVERRIDES,
    tags.SIGNATURE,
}  # tags that no file of it repeats
AnyRun = TypeVar("AnyRun")
_LATEST = ("attributes.start_time DESC",)
_PAGE = 1000  # runs that MLflow is asked for at once


def open_study(
    store: Store,
    study: str,
    params: Mapping[str, Any],
    notes: Mapping[str, str],
    began: float,
    *,
    runs: bool,
) -> tuple[str, str | None]:
    """Open the study's parent run; it is made where it is not there yet.

    The notes are written at every start: a study's storage may have moved. One that is closed is
    not opened again where no trial ``runs``. A new run starts when its command ``began``, as of
    `time.time`.

    Returns:
        Its id, and the state in which it is closed, as long as its notes on the search hold.
    """
    found = find_runs(
        store, f"tags.`{tags.STUDY}` = '{_quoted(study)}' and tags.`{tags.KIND}` = 'study'"
    )
    if found:
        parent_run_id, known = str(found[0].info.run_id), found[0].data.tags
        kept_as = None if runs or known[tags.STATE] == "running" else known[tags.STATE]
        if kept_as:
            notes = {k: text for k, text in notes.items() if k != tags.PROCESS}
        else:
            notes = {tags.STATE: "running", **notes}
        new = {k: text for k, text in notes.items() if known.get(k) != text}
        for key, value in new.items():
            store.client.set_tag(parent_run_id, key, value)
        if not kept_as:  # now that it is signed: nobody takes it for one that died
            store.client.update_run(parent_run_id, status="RUNNING")
        return parent_run_id, kept_as if new.keys() <= _HOW_IT_IS_RUN else None
    run_tags = {tags.KIND: "study", tags.STUDY: study, tags.STATE: "running", **notes}
    run_id = store.create_run(study, int(began * 1000), run_tags)
    log_params(store, run_id, params)
    return run_id, None


def close_study(
    store: Store,
    parent_run_id: str,
    state: str,
    tables: Mapping[str, str],
    end: float | None = None,
) -> None:
    """Store the study's tables and end its run: complete, failed or unfinished.

    Args:
        store: where the study is.
        parent_run_id: its run.
        state: how it ended.
        tables: texts by file name.
        end: when, as of `time.time`; None: now.
    """
    log_texts(store, parent_run_id, tables)
    store.client.set_tag(parent_run_id, tags.STATE, state)
    status = {"complete": "FINISHED", "failed": "FAILED", "unfinished": "KILLED"}[state]
    ended = None if end is None else int(end * 1000)
    store.client.set_terminated(parent_run_id, status, end_time=ended)


def run_of(store: Store, run_id: str) -> Run:
    """Return a run as it is now."""
    return store.client.get_run(run_id)


def seek_run(store: Store, run_id: str) -> Run | None:
    """Return a run, also one that was deleted in MLflow; None where that was for good."""
    from mlflow.exceptions import MlflowException

    try:
        return run_of(store, run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def is_deleted(run: Run | None) -> bool:
    """Whether a run that was there is deleted in MLflow, for now or for good."""
    return run is None or run.info.lifecycle_stage == "deleted"


def log_page(store: Store, study: Run, page: str, file: str) -> str:
    """Store a page with the study; return its local path, or its URI where it has none."""
    store.client.log_text(study.info.run_id, page, file)
    return local_path(f"{study.info.artifact_uri}/{file}")


def log_texts(store: Store, run_id: str, texts: Mapping[str, str]) -> None:
    """Store texts with a run, by the names of their files."""
    for file, text in texts.items():
        store.client.log_text(run_id, text, file)


def read_text(store: Store, run: Run, file: str) -> str | None:
    """Return a text artifact of a run, or None if it has no such file."""
    if not any(found.path == file for found in store.client.list_artifacts(run.info.run_id)):
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = store.client.download_artifacts(run.info.run_id, file, folder)
        return Path(path).read_text(encoding="utf-8")


def read_json(store: Store, run: Run, file: str) -> Any:
    """Return a JSON artifact of a run, or None if it has no such file, or only what is left of it.

    A machine that stops leaves files that were not on its disk yet, at their full name.
    """
    try:
        text = read_text(store, run, file)
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:  # a letter cut in half is a ValueError, too
        log.warning("%s of run %s is damaged, left out: %s", file, run.info.run_id, error)
        return None


def bytes_of(runs: Iterable[Run]) -> int:
    """Return the bytes of the artifacts of runs, those that do not lie on this machine left out."""
    folders = [Path(local_path(run.info.artifact_uri)) for run in runs]
    files = (file for folder in folders if folder.is_dir() for file in folder.rglob("*"))
    return sum(file.stat().st_size for file in files if file.is_file())


def log_progress(store: Store, parent_run_id: str, step: int, values: Mapping[str, float]) -> None:
    """Add a point to the study's own metrics."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    points = [Metric(key, value, now, step) for key, value in values.items()]
    store.client.log_batch(parent_run_id, metrics=points)


def set_best(
    store: Store,
    parent_run_id: str,
    trial: int,
    run_id: str,
    score: str,
    front: Sequence[int] = (),
) -> None:
    """Name the study's best trial, and delete the model of the one it replaces.

    Where a changed space makes a trial the best whose model is deleted already, the study keeps
    the model that it has until a best trial has one.

    Args:
        store: where the study is.
        parent_run_id: its run.
        trial: the best one's number.
        run_id: the best one's run.
        score: its scores, as they are shown.
        front: numbers of the trials on the Pareto front; none where there is one objective.
    """
    known = store.client.get_run(parent_run_id).data.tags
    best = {tags.BEST_RUN: run_id, tags.BEST_TRIAL: str(trial), tags.BEST_SCORE: score}
    if front:
        best[tags.FRONT] = ", ".join(map(str, front))
    for key, value in best.items():
        if known.get(key) != value:
            store.client.set_tag(parent_run_id, key, value)
    previous, kept = known.get(tags.BEST_RUN), known.get(tags.MODEL_RUN)
    if previous == run_id:
        return
    run = seek_run(store, run_id)
    is_other = run is not None and run.data.tags.get(tags.STUDY) != known[tags.STUDY]
    if is_other and not is_deleted(run):  # a fork's best, of its origin
        store.client.set_tag(run_id, tags.KEPT_FOR, known[tags.STUDY])
    if previous is None:
        return
    if run is None or not has_model(store, run):
        if kept is None:
            store.client.set_tag(parent_run_id, tags.MODEL_RUN, previous)
        return
    for replaced in {previous, kept} - {None, run_id}:
        delete_model(store, str(replaced), of_study=known[tags.STUDY])
    if kept is not None:
        store.client.delete_tag(parent_run_id, tags.MODEL_RUN)


def delete_model(store: Store, run_id: str, of_study: str | None = None) -> None:
    """Delete a run's model, and nothing else of it.

    One that a fork names as its best and one that was registered are left alone; where a study
    deletes it, so is another study's, which a fork copied.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    run = seek_run(store, run_id)
    if run is None:
        return
    known = run.data.tags
    is_anothers = of_study is not None and known.get(tags.STUDY) != of_study
    if is_anothers or tags.KEPT_FOR in known or REGISTERED in known:
        return
    if store.client.list_artifacts(run_id, MODEL_FOLDER):
        repository = get_artifact_repository(run.info.artifact_uri, tracking_uri=store.uri)
        repository.delete_artifacts(MODEL_FOLDER)


def close_trial(store: Store, run_id: str, state: str, reason: str = "") -> None:
    """Close a trial's run as its study has it: complete, pruned or failed."""
    store.client.set_tag(run_id, tags.STATE, state)
    if reason:
        store.client.set_tag(run_id, tags.REASON, reason[: tags.MOST_CHARACTERS])
    status = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}[state]
    store.client.set_terminated(run_id, status)


def close_dead(store: Store, study: str, killed: Collection[int]) -> None:
    """Close the runs of trials whose process died, so that none stays running or counts as done."""
    if not killed:
        return
    for run in trials_of(store, study):
        known = run.data.tags
        if int(known[tags.TRIAL]) in killed and known.get(tags.STATE) != "failed":
            close_killed(store, run.info.run_id)


def connect(store: Store) -> None:
    """Reach the store, and close what processes of this machine left open in it when they died.

    Raises:
        TrackingError: where it cannot be reached.
    """
    store.connect()
    for run in find_runs(store, "attributes.status = 'RUNNING'"):
        if not died(run):
            continue
        if run.data.tags.get(tags.KIND) == "study":
            close_study(store, run.info.run_id, "unfinished", {})
        else:
            close_killed(store, run.info.run_id)


def died(run: Run) -> bool:
    """Whether a run is open, and the process that writes it is known to be gone."""
    return run.info.status == "RUNNING" and is_gone(signature_of(run)) is True


def state_of(run: Run) -> str:
    """Return a run's state as it is logged; killed, where nobody was left to log it."""
    return "killed" if died(run) else str(run.data.tags.get(tags.STATE))


def signature_of(run: Run) -> dict[str, Any]:
    """Return what tells the process that writes a run from others; empty where it did not say."""
    signature: dict[str, Any] = json.loads(run.data.tags.get(tags.PROCESS, "{}"))
    return signature


def close_killed(store: Store, run_id: str) -> None:
    """Close the run of a process that died, and delete its model."""
    store.client.set_tag(run_id, tags.STATE, "failed")
    store.client.set_tag(run_id, tags.REASON, "killed: its process ended")
    store.client.set_terminated(run_id, "KILLED")
    delete_model(store, run_id)


def trials_of(
    store: Store,
    study: str,
    condition: str = "",
    order: Sequence[str] = _LATEST,
    most: float = math.inf,
) -> list[Run]:
    """Return the runs of a study's trials, the latest first; just asking makes no store."""
    own = [f"tags.`{tags.STUDY}` = '{_quoted(study)}'", f"tags.`{tags.KIND}` = 'trial'"]
    every = " and ".join([*own, condition] if condition else own)
    return [] if store.is_empty else find_runs(store, every, order=order, most=most)


@dataclass(frozen=True)
class LoggedTrial:
    """A trial, or a run on its own, as it was logged."""

    run_id: str
    complete: bool
    settings: Mapping[str, str]  # its parameters, and what its command line chose of groups
    overrides: Sequence[str]  # its command line
    metrics: Mapping[str, float]  # the latest value of each
    data: str | None  # digest of its data, where its study's record has one
    point: tuple[str, str] | None  # its study and trial; None: a run on its own
    repeat: int | None  # which of the trial's seeds it had, from 0; None where that has one
    repeats: int  # how many seeds the trials of its study have


def logged_trials(store: Store, source: str) -> list[LoggedTrial]:
    """Return the trials of a study, or with ``*`` all trials and runs, the latest first.

    Raises:
        TrackingError: where there is no such study.
    """
    if source == "*":
        trials = [] if store.is_empty else find_runs(store, f"tags.`{tags.KIND}` = 'trial'")
        runs = [*trials, *own_runs(store)]
    else:
        runs = trials_of(store, find_study(store, source).data.tags[tags.STUDY])
    parents = {study.info.run_id: study for study in all_studies(store)}
    of_study: dict[str | None, list[Run]] = defaultdict(list)
    for run in runs:
        of_study[run.data.tags.get(tags.STUDY)].append(run)
    found = []
    for run in runs:
        known = run.data.tags
        overrides = migrated_overrides(json.loads(known.get(tags.OVERRIDES, "[]")))
        chosen = {key_of(o): o.partition("=")[2] for o in overrides}
        parent = parents.get(known.get("mlflow.parentRunId"))
        found.append(
            LoggedTrial(
                run.info.run_id,
                known.get(tags.STATE) == "complete",
                {**chosen, **migrated_params(run.data.params)},
                overrides,
                run.data.metrics,
                parent.data.params.get(DATA) if parent else None,
                (known[tags.STUDY], known[tags.TRIAL]) if tags.TRIAL in known else None,
                int(known[tags.REPEAT]) if tags.REPEAT in known else None,
                repeats_of(parent, of_study[known.get(tags.STUDY)]),
            )
        )
    return found


def space_note(space: Mapping[str, str]) -> str:
    """Return what a study searches as a tag's text: keys and values, or only keys where it is long.

    Parameters of a run cannot change, and a study may be resumed with another space.
    """
    text = json.dumps(space, ensure_ascii=False)
    return text if len(text) <= tags.MOST_CHARACTERS else json.dumps(dict.fromkeys(space, ""))


def repeats_of(study: Run | None, trials: Iterable[Run]) -> int:
    """Return how many seeds each trial of a study has: by its record, or else by its trials."""
    noted = json.loads(study.data.tags.get(tags.LIMITS, "{}")) if study else {}
    return noted.get("repeats") or 1 + max(
        (int(run.data.tags.get(tags.REPEAT, 0)) for run in trials), default=0
    )


def tries_of(runs: Iterable[tuple[Hashable, int, AnyRun]]) -> list[list[list[AnyRun]]]:
    """Return the runs of each trial by its tries, the latest first, its last seed's run first.

    A trial's number may have been that of an earlier one: where the study's folder was deleted and
    its search was given again.

    Args:
        runs: the trial of each, which of its seeds it had, and the run; the latest first.
    """
    tries: dict[Hashable, list[list[AnyRun]]] = defaultdict(list)
    reached: dict[Hashable, int] = {}
    for trial, repeat, run in runs:
        if repeat >= reached.get(trial, 0):  # not before the seed that came after it
            tries[trial].append([])
        tries[trial][-1].append(run)
        reached[trial] = repeat
    return list(tries.values())


def searched_keys(study: Run) -> list[str]:
    """Return the keys that a study searches now."""
    noted = study.data.tags.get(tags.SPACE)
    if noted:
        return list(json.loads(noted))
    return [k.removeprefix("search.") for k in study.data.params if k.startswith("search.")]


def history(store: Store, run_id: str, metric: str) -> dict[int, float]:
    """Return a metric's values by the step that they were logged at, in order."""
    points = store.client.get_metric_history(run_id, metric)
    return {p.step: p.value for p in sorted(points, key=lambda p: (p.step, p.timestamp))}


def own_runs(store: Store) -> list[Run]:
    """Return the runs that are part of no study, the latest first."""
    return [] if store.is_empty else find_runs(store, f"tags.`{tags.KIND}` = 'run'")


def all_studies(store: Store) -> list[Run]:
    """Return the parent runs of all studies, the latest first; just asking makes no store."""
    return [] if store.is_empty else find_runs(store, f"tags.`{tags.KIND}` = 'study'")


def names_everywhere(store: Store) -> set[str]:
    """Return the names of the studies in all experiments of the store."""
    if store.is_empty:
        return set()
    every = [e.experiment_id for e in store.client.search_experiments()]
    found = find_runs(store, f"tags.`{tags.KIND}` = 'study'", every)
    return {run.data.tags[tags.STUDY] for run in found}


def count(store: Store, tag: str, value: str) -> int:
    """Return how many runs of the experiment have a tag of this value."""
    return len(find_runs(store, f"tags.`{tag}` = '{_quoted(value)}'"))


def has_model(store: Store, run: Run) -> bool:
    """Whether a run keeps a model."""
    if urlsplit(run.info.artifact_uri).scheme in ("", "file"):  # fast, where runs are many
        return Path(local_path(f"{run.info.artifact_uri}/{MODEL_FOLDER}")).is_dir()
    return bool(store.client.list_artifacts(run.info.run_id, MODEL_FOLDER))


def trials_with_model(store: Store) -> list[Run]:
    """Return the runs of all studies' trials that keep a model; local ones are found by folder."""
    if store.is_empty:
        return []
    condition = f"tags.`{tags.KIND}` = 'trial'"
    location = store.client.get_experiment(store.experiment_id).artifact_location
    if urlsplit(location).scheme in ("", "file"):
        folders = Path(local_path(location)).glob(f"*/artifacts/{MODEL_FOLDER}")
        ids = ", ".join(f"'{folder.parts[-3]}'" for folder in folders)
        if not ids:
            return []
        condition += f" and attributes.run_id IN ({ids})"
    return [run for run in find_runs(store, condition) if has_model(store, run)]


def find_study(store: Store, name: str) -> Run:
    """Return a study's parent run by its name, or the latest whose name begins so.

    Raises:
        TrackingError: where there is none, naming the nearest.
    """
    studies = all_studies(store)
    names = [run.data.tags[tags.STUDY] for run in studies]
    for is_it in (str.__eq__, str.startswith):
        for run, found in zip(studies, names, strict=True):
            if is_it(found, name):
                return run
    known = f" Known: {listing(names)}." if names else " There is none yet."
    raise TrackingError(
        f"{name}: no study of that name in {store.uri}, experiment {store.config.experiment}."
        f"{did_you_mean(name, names)}{known}"
    )


@without_gc()
def find_runs(
    store: Store,
    condition: str,
    experiments: list[str] | None = None,
    order: Sequence[str] = _LATEST,
    most: float = math.inf,
) -> list[Run]:
    """Search runs, the latest first; in our experiment, unless others are given."""
    found: list[Run] = []
    page: str | None = None
    while len(found) < most and (page is None or page):
        some = store.client.search_runs(
            experiments or [store.experiment_id],
            condition,
            order_by=list(order),
            max_results=int(min(most - len(found), _PAGE)),
            page_token=page,
        )
        found += some
        page = some.token or ""
    return found


def _quoted(value: str) -> str:
    return value.replace("'", "")
