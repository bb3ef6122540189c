"""Studies in MLflow: one parent run each, found by name."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.common.contract import NO_KEYS
from pipeline.common.errors import TrackingError, did_you_mean, listing
from pipeline.tracking import tags
from pipeline.tracking.kept_models import delete_model, has_model
from pipeline.tracking.record import log_params
from pipeline.tracking.runs import find_runs, is_deleted, log_texts, quoted, seek_run
from pipeline.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

DATA = "data"  # parameter of a study: the digest of its data
# Tags that no file of a study repeats.
_HOW_IT_IS_RUN = {tags.STORAGE, tags.JOB, tags.OVERRIDES, tags.SIGNATURE, tags.STORAGE_SIGNATURE}


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
        store, f"tags.`{tags.STUDY}` = '{quoted(study)}' and tags.`{tags.KIND}` = 'study'"
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


def set_best(
    store: Store,
    parent_run_id: str,
    trial: int,
    run_id: str,
    score: str,
    front: Sequence[int] = (),
    stay: Collection[str] = (),
) -> str | None:
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
        stay: runs whose models are kept besides.

    Returns:
        The run that has the kept model where the best one has none.
    """
    known: dict[str, str] = store.client.get_run(parent_run_id).data.tags
    best = {tags.BEST_RUN: run_id, tags.BEST_TRIAL: str(trial), tags.BEST_SCORE: score}
    if front:
        best[tags.FRONT] = ", ".join(map(str, front))
    for key, value in best.items():
        if known.get(key) != value:
            store.client.set_tag(parent_run_id, key, value)
    previous, kept = known.get(tags.BEST_RUN), known.get(tags.MODEL_RUN)
    if previous == run_id:
        return kept
    run = seek_run(store, run_id)
    is_other = run is not None and run.data.tags.get(tags.STUDY) != known[tags.STUDY]
    if is_other and not is_deleted(run):  # a fork's best, of its origin
        store.client.set_tag(run_id, tags.KEPT_FOR, known[tags.STUDY])
    if previous is None:
        return kept
    if run is None or not has_model(store, run):
        if kept is None:
            store.client.set_tag(parent_run_id, tags.MODEL_RUN, previous)
        return kept or previous
    for replaced in {previous, kept} - {None, run_id, *stay}:
        delete_model(store, str(replaced), of_study=known[tags.STUDY])
    if kept is not None:
        store.client.delete_tag(parent_run_id, tags.MODEL_RUN)
    return None


def space_note(space: Mapping[str, str]) -> str:
    """Return what a study searches as a tag's text: keys and values, or only keys where it is long.

    Parameters of a run cannot change, and a study may be resumed with another space.
    """
    text = json.dumps(space, ensure_ascii=False)
    return text if len(text) <= tags.MOST_CHARACTERS else json.dumps(dict.fromkeys(space, ""))


def searched_keys(study: Run) -> list[str]:
    """Return the keys that a study searches now."""
    noted = study.data.tags.get(tags.SPACE)
    if noted:
        return [key for key in json.loads(noted) if key not in NO_KEYS]
    return [k.removeprefix("search.") for k in study.data.params if k.startswith("search.")]


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
