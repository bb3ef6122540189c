"""Which runs keep a model, and who may delete it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipeline.tracking import tags
from pipeline.tracking.location import local_path
from pipeline.tracking.record import MODEL_FOLDER as MODEL_FOLDER
from pipeline.tracking.runs import find_runs, seek_run
from pipeline.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

REGISTERED = f"{tags.PREFIX}registered"  # on a run: names of its model in the registry, as JSON


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
        with suppress(FileNotFoundError):  # the same search, started twice, deletes it as well
            repository.delete_artifacts(MODEL_FOLDER)
