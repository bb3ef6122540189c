"""Runs that a process left open when it died: recognized by the process they name, and closed."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from pipeline.common.process import is_gone
from pipeline.tracking import tags
from pipeline.tracking.kept_models import delete_model
from pipeline.tracking.runs import find_runs, run_of
from pipeline.tracking.store import Store
from pipeline.tracking.studies import close_study
from pipeline.tracking.trials import trials_of

if TYPE_CHECKING:
    from mlflow.entities import Run


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


def connect_and_close_dead(store: Store) -> None:
    """Reach the store, and close what processes of this machine left open in it when they died.

    Raises:
        TrackingError: where it cannot be reached.
    """
    store.connect()
    for run in filter(died, find_runs(store, "attributes.status = 'RUNNING'")):
        if not died(run_of(store, run.info.run_id)):
            continue  # somebody resumes it
        if run.data.tags.get(tags.KIND) == "study":
            close_study(store, run.info.run_id, "unfinished", {})
        else:
            close_killed(store, run.info.run_id)


def close_dead(store: Store, study: str, killed: Collection[int]) -> None:
    """Close the runs of trials whose process died, so that none stays running or counts as done."""
    if not killed:
        return
    for run in trials_of(store, study):
        known = run.data.tags
        if int(known[tags.TRIAL]) in killed and known.get(tags.STATE) != "failed":
            close_killed(store, run.info.run_id)


def close_killed(store: Store, run_id: str) -> None:
    """Close the run of a process that died, and delete its model."""
    store.client.set_tag(run_id, tags.STATE, "failed")
    store.client.set_tag(run_id, tags.REASON, "killed: its process ended")
    store.client.set_terminated(run_id, "KILLED")
    delete_model(store, run_id)
