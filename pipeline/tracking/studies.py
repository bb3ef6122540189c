"""Studies in MLflow: one parent run each, found by name, and its trials."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pipeline.errors import TrackingError, did_you_mean, listing
from pipeline.tracking import tags
from pipeline.tracking.record import log_params
from pipeline.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

MODEL_FOLDER = "model"  # artifact folder of a kept model
MASK = "***"  # stands in a storage's URL for a secret


def open_study(
    store: Store, study: str, params: Mapping[str, Any], notes: Mapping[str, str]
) -> str:
    """Return the id of the study's parent run; it is made where it is not there yet.

    The notes are written at every start: a study's storage may have moved.
    """
    found = _find(
        store, f"tags.`{tags.STUDY}` = '{_quoted(study)}' and tags.`{tags.KIND}` = 'study'"
    )
    if found:
        parent_run_id = str(found[0].info.run_id)
        store.client.update_run(parent_run_id, status="RUNNING")
        for key, value in {tags.STATE: "running", **notes}.items():
            store.client.set_tag(parent_run_id, key, value)
        return parent_run_id
    run_tags = {tags.KIND: "study", tags.STUDY: study, tags.STATE: "running", **notes}
    run = store.client.create_run(store.experiment_id, run_name=study, tags=run_tags)
    log_params(store, run.info.run_id, params)
    return str(run.info.run_id)


def close_study(store: Store, parent_run_id: str, state: str, tables: Mapping[str, str]) -> None:
    """Store the study's tables and end its run: complete, failed or unfinished."""
    for file, text in tables.items():
        store.client.log_text(parent_run_id, text, file)
    store.client.set_tag(parent_run_id, tags.STATE, state)
    status = {"complete": "FINISHED", "failed": "FAILED", "unfinished": "KILLED"}[state]
    store.client.set_terminated(parent_run_id, status)


def parent_run(store: Store, parent_run_id: str) -> Run:
    """Return a study's parent run as it is now."""
    return store.client.get_run(parent_run_id)


def log_page(store: Store, study: Run, page: str, file: str) -> str:
    """Store a page with the study; return its local path, or its URI where it has none."""
    store.client.log_text(study.info.run_id, page, file)
    return _local(f"{study.info.artifact_uri}/{file}")


def log_progress(store: Store, parent_run_id: str, trial: int, values: Mapping[str, float]) -> None:
    """Add a point at the trial's number to the study's own metrics."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    points = [Metric(key, value, now, trial) for key, value in values.items()]
    store.client.log_batch(parent_run_id, metrics=points)


def set_best(store: Store, parent_run_id: str, trial: int, run_id: str) -> None:
    """Name the study's best trial, and delete the model of the one it replaces."""
    former = store.client.get_run(parent_run_id).data.tags.get(tags.BEST_RUN)
    if former == run_id:
        return
    store.client.set_tag(parent_run_id, tags.BEST_RUN, run_id)
    store.client.set_tag(parent_run_id, tags.BEST_TRIAL, str(trial))
    if former:
        delete_model(store, former)


def delete_model(store: Store, run_id: str) -> None:
    """Delete a run's model, and nothing else of it."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    artifact_uri = store.client.get_run(run_id).info.artifact_uri
    if store.client.list_artifacts(run_id, MODEL_FOLDER):
        repository = get_artifact_repository(artifact_uri, tracking_uri=store.uri)
        repository.delete_artifacts(MODEL_FOLDER)


def end_pruned(store: Store, run_id: str) -> None:
    """Close the run of a paused trial that will not go on."""
    store.client.set_tag(run_id, tags.STATE, "pruned")
    store.client.set_terminated(run_id, "KILLED")


def settle(store: Store, study: str, killed: Collection[int]) -> None:
    """Close the runs of trials whose process died, so that none stays running or counts as done."""
    if not killed:
        return
    condition = f"tags.`{tags.STUDY}` = '{_quoted(study)}' and tags.`{tags.KIND}` = 'trial'"
    for run in _find(store, condition):
        known = run.data.tags
        if int(known[tags.TRIAL]) in killed and known.get(tags.STATE) != "failed":
            store.client.set_tag(run.info.run_id, tags.STATE, "failed")
            store.client.set_tag(run.info.run_id, tags.REASON, "killed: its process ended")
            store.client.set_terminated(run.info.run_id, "KILLED")
            delete_model(store, run.info.run_id)


def find_study(store: Store, name: str) -> Run:
    """Return a study's parent run by its name, or the latest whose name begins so.

    Raises:
        TrackingError: where there is none, naming the nearest.
    """
    # Just asking makes no store.
    studies = [] if store.is_empty else _find(store, f"tags.`{tags.KIND}` = 'study'")
    names = [run.data.tags[tags.STUDY] for run in studies]
    for run, found in zip(studies, names, strict=True):
        if found == name:
            return run
    for run, found in zip(studies, names, strict=True):
        if found.startswith(name):
            return run
    known = f" Known: {listing(names)}." if names else " There is none yet."
    raise TrackingError(
        f"{name}: no study of that name in {store.uri}, experiment {store.config.experiment}."
        f"{did_you_mean(name, names)}{known}"
    )


def best_trial(store: Store, study: Run) -> Run:
    """Return the run of a study's best trial.

    Raises:
        TrackingError: where no trial is complete.
    """
    best = study.data.tags.get(tags.BEST_RUN)
    if best is None:
        raise TrackingError(f"{study.data.tags[tags.STUDY]}: no trial of it is complete yet.")
    return store.client.get_run(best)


def model_path(store: Store, run: Run) -> str | None:
    """Return where a run's model is, as a local path where it is one; None without a model."""
    if not store.client.list_artifacts(run.info.run_id, MODEL_FOLDER):
        return None
    return _local(f"{run.info.artifact_uri}/{MODEL_FOLDER}")


def _find(store: Store, condition: str) -> list[Run]:
    """Search runs, the latest first."""
    found: list[Run] = []
    page: str | None = None
    while page is None or page:
        some = store.client.search_runs(
            [store.experiment_id],
            condition,
            order_by=["attributes.start_time DESC"],
            max_results=1000,
            page_token=page,
        )
        found += some
        page = some.token or ""
    return found


def masked(storage: str) -> str:
    """Return a study's storage as it may be shown: a URL without its secrets."""
    from sqlalchemy import make_url

    if "://" not in storage:
        return storage
    url = make_url(storage)
    secret = [k for k in url.query if re.search("pass|pwd|secret|token|key", k, re.IGNORECASE)]
    return url.update_query_dict(dict.fromkeys(secret, MASK)).render_as_string(hide_password=True)


def _local(uri: str) -> str:
    """Return an artifact's URI as a path, where it is one."""
    return url2pathname(urlsplit(uri).path) if uri.startswith("file://") else uri


def _quoted(value: str) -> str:
    return value.replace("'", "")
