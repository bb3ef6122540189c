"""Runs that a process left open when it died: recognized by the process they name, and closed."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pipeline.tracking import tags
from pipeline.tracking.descriptions import describe
from pipeline.tracking.kept_models import delete_model
from pipeline.tracking.runs import died, find_runs, run_of
from pipeline.tracking.store import Store
from pipeline.tracking.studies import close_study
from pipeline.tracking.trials import close_trial, trials_of


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
            describe(store, run.info.run_id)
        else:
            close_killed(store, run.info.run_id)


def close_dead(
    store: Store, study: str, killed: Collection[int], stopped: Mapping[int, str]
) -> None:
    """Close the runs of trials whose process died, so that none stays running or counts as done.

    ``stopped`` are pruned, each with its reason: a user had ended them.
    """
    if not (killed or stopped):
        return
    for run in trials_of(store, study):
        known, run_id = run.data.tags, run.info.run_id
        number, state = int(known[tags.TRIAL]), known.get(tags.STATE)
        if number in killed and state != "failed":
            close_killed(store, run_id)
        elif number in stopped and state not in ("complete", "pruned"):
            close_trial(store, run_id, "pruned", stopped[number])
            describe(store, run_id)
            delete_model(store, run_id)


def close_killed(store: Store, run_id: str, why: str = "its process ended") -> None:
    """Close the run of a process that died or was to stop, and delete its model."""
    store.client.set_tag(run_id, tags.STATE, "failed")
    store.client.set_tag(run_id, tags.REASON, f"killed: {why}")
    store.client.set_terminated(run_id, "KILLED")
    describe(store, run_id)
    delete_model(store, run_id)
