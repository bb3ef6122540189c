"""Runs in MLflow: searched, looked up, and the artifacts and metrics that they have."""

from __future__ import annotations

import json
import logging
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.process import is_gone, without_gc
from pipeline.tracking import tags
from pipeline.tracking.location import local_path
from pipeline.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run as Run

log = logging.getLogger(__name__)

LATEST = ("attributes.start_time DESC",)
_PAGE = 1000  # runs that MLflow is asked for at once


@without_gc()
def find_runs(
    store: Store,
    condition: str,
    experiments: list[str] | None = None,
    order: Sequence[str] = LATEST,
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


def process_of(run: Run) -> dict[str, Any]:
    """Return what tells the process that writes a run from others; empty where it did not say."""
    process: dict[str, Any] = json.loads(run.data.tags.get(tags.PROCESS, "{}"))
    return process


def died(run: Run) -> bool:
    """Whether a run is open, and the process that writes it is known to be gone."""
    return run.info.status == "RUNNING" and is_gone(process_of(run)) is True


def state_of(run: Run) -> str:
    """Return a run's state as it is logged; killed, where nobody was left to log it."""
    return "killed" if died(run) else str(run.data.tags.get(tags.STATE))


def own_runs(store: Store) -> list[Run]:
    """Return the runs that are part of no study, the latest first."""
    return [] if store.is_empty else find_runs(store, f"tags.`{tags.KIND}` = 'run'")


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


def count_runs(store: Store, tag: str, value: str) -> int:
    """Return how many runs of the experiment have a tag of this value."""
    return len(find_runs(store, f"tags.`{tag}` = '{quoted(value)}'"))


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


def log_texts(store: Store, run_id: str, texts: Mapping[str, str]) -> None:
    """Store texts with a run, by the names of their files."""
    for file, text in texts.items():
        store.client.log_text(run_id, text, file)


def log_page(store: Store, study: Run, page: str, file: str) -> str:
    """Store a page with the study; return its local path, or its URI where it has none."""
    store.client.log_text(study.info.run_id, page, file)
    return local_path(f"{study.info.artifact_uri}/{file}")


def log_progress(store: Store, parent_run_id: str, step: int, values: Mapping[str, float]) -> None:
    """Add a point to the study's own metrics."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    points = [Metric(key, value, now, step) for key, value in values.items()]
    store.client.log_batch(parent_run_id, metrics=points)


def quoted(value: str) -> str:
    """Return a value as a condition of MLflow may have it between quotes."""
    return value.replace("'", "")
