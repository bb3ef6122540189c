"""Models that runs keep, each one of MLflow's logged models: made, found and deleted."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipeline.common.private import make_folder
from pipeline.evaluation.names import SPLIT_NAMES
from pipeline.tracking import tags
from pipeline.tracking.context import NOTE
from pipeline.tracking.location import local_path
from pipeline.tracking.runs import find_runs, quoted, seek_run
from pipeline.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

REGISTERED = f"{tags.PREFIX}registered"  # on a run: names of its model in the registry, as JSON
MODEL_FOLDER = "model"  # of a kept model, and its name in MLflow: runs:/RUN/model leads to it
# Tags that a model has of its run.
_ORIGIN = ("mlflow.user", "mlflow.source.", tags.STUDY, tags.TRIAL)


_USE = """\
```
tunewright predict {0} --input new.jsonl --output predictions.jsonl
mlflow models serve -m models:/{0} -p 5001 --env-manager local
```
"""


def place_of(run: Run) -> str:
    """Return the URI at which a run has its model if it keeps one.

    A run of an older version has it among its artifacts.
    """
    model_id = run.data.tags.get(tags.MODEL)
    if model_id is None:
        return f"{run.info.artifact_uri}/{MODEL_FOLDER}"
    experiment = run.info.artifact_uri.rpartition(f"/{run.info.run_id}/")[0]
    return f"{experiment}/models/{model_id}/artifacts"


def has_model(store: Store, run: Run) -> bool:
    """Whether a run keeps a model."""
    place = place_of(run)
    if _is_local(place):  # fast, where runs are many
        return Path(local_path(place)).is_dir()
    return bool(model_files(store, run))


def model_files(store: Store, run: Run) -> set[str]:
    """Return the names of the files and folders of a run's model."""
    return {found.path for found in _repository(store, place_of(run)).list_artifacts()}


def bytes_of(runs: Collection[Run]) -> int:
    """Return the bytes of runs' artifacts and models, those elsewhere than here left out."""
    places = [run.info.artifact_uri for run in runs]
    places += [place_of(run) for run in runs if tags.MODEL in run.data.tags]
    folders = [Path(local_path(place)) for place in places]
    files = (file for folder in folders if folder.is_dir() for file in folder.rglob("*"))
    return sum(file.stat().st_size for file in files if file.is_file())


def trials_with_model(store: Store, study: str | None = None) -> list[Run]:
    """Return the runs of a study's trials, or of all studies', that keep a model."""
    if store.is_empty:
        return []
    trials = f"tags.`{tags.KIND}` = 'trial'"
    if study is not None:
        trials += f" and tags.`{tags.STUDY}` = '{quoted(study)}'"
    location = store.client.get_experiment(store.experiment_id).artifact_location
    if not _is_local(location):
        found = find_runs(store, trials)
    else:
        found = find_runs(store, f"{trials} and tags.`{tags.MODEL}` LIKE 'm-%'")
        folders = Path(local_path(location)).glob(f"*/artifacts/{MODEL_FOLDER}")
        if ids := ", ".join(f"'{folder.parts[-3]}'" for folder in folders):  # of an older version
            found += find_runs(store, f"{trials} and attributes.run_id IN ({ids})")
    return [run for run in found if has_model(store, run)]


@contextmanager
def logged_model(store: Store, run_id: str, step: int) -> Iterator[str]:
    """Make the model that a run keeps of a step; yield its id: its files are to be stored then.

    Afterwards it is ready, has the run's parameters and scores, and the run and it link to each
    other. It replaces one that an attempt left which was cut off.
    """
    from mlflow.entities import LoggedModelOutput

    client = store.client
    delete_model(store, run_id)
    run = client.get_run(run_id)
    mine = f"source_run_id = '{run_id}'"  # of a process that ended before it could say so
    for left in client.search_logged_models([run.info.experiment_id], mine):
        if left.model_id != run.data.tags.get(tags.MODEL):  # which stays: it is registered
            client.delete_logged_model(left.model_id)
    params, known = run.data.params, run.data.tags
    origin = {key: text for key, text in known.items() if key.startswith(_ORIGIN)}
    made = client.create_logged_model(
        run.info.experiment_id, MODEL_FOLDER, run_id, origin, params, params["task.name"]
    )
    client.set_tag(run_id, tags.MODEL, made.model_id)  # first: whoever deletes it finds it by this
    if _is_local(made.artifact_location):
        make_folder(Path(local_path(made.artifact_location)))
    try:
        yield str(made.model_id)
        client.log_outputs(run_id, [LoggedModelOutput(made.model_id, step)])
        client.log_batch(run_id, metrics=list(_scores(store, run, made.model_id)))
        client.set_logged_model_tags(made.model_id, {NOTE: _USE.format(made.model_id)})
        client.finalize_logged_model(made.model_id, "READY")
    except BaseException:
        with suppress(Exception):  # the store may be gone: why it failed counts
            delete_model(store, run_id)
        raise


def _scores(store: Store, run: Run, model_id: str) -> Iterator[Metric]:
    """Return a run's scores as those of its model: the very points that it has, with their data."""
    from mlflow.entities import Metric

    data = {
        tag.value: given.dataset
        for given in run.inputs.dataset_inputs
        for tag in given.tags
        if tag.key == "mlflow.data.context"
    }
    for key in run.data.metrics:
        if split := SPLIT_NAMES.get(key.partition("/")[0]):
            points = store.client.get_metric_history(run.info.run_id, key)
            p = max(points, key=lambda point: (point.step, point.timestamp))
            of = data[split]
            yield Metric(key, p.value, p.timestamp, p.step, model_id, of.name, of.digest)


def name_inputs(store: Store, run_id: str, runs: Collection[Run]) -> None:
    """Name the models of runs as what another run is made of."""
    from mlflow.entities import LoggedModelInput

    known = [run.data.tags[tags.MODEL] for run in runs if tags.MODEL in run.data.tags]
    store.client.log_inputs(run_id, models=[LoggedModelInput(model_id) for model_id in known])


def delete_model(store: Store, run_id: str, of_study: str | None = None) -> None:
    """Delete a run's model, and nothing else of it.

    One that a fork names as its best and one that was registered are left alone; where a study
    deletes it, so is another study's, which a fork copied.
    """
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

    run = seek_run(store, run_id)
    if run is None:
        return
    known = run.data.tags
    is_anothers = of_study is not None and known.get(tags.STUDY) != of_study
    if is_anothers or tags.KEPT_FOR in known or REGISTERED in known:
        return
    # The tag last: by it and the folder a deletion that was cut off is found again.
    if tags.MODEL in known:
        with _if_there():
            if MLFLOW_MODEL_VERSIONS in store.client.get_logged_model(known[tags.MODEL]).tags:
                return  # somebody registered it in MLflow's pages
            store.client.delete_logged_model(known[tags.MODEL])
    root, _, folder = place_of(run).removesuffix("/artifacts").rpartition("/")
    with suppress(FileNotFoundError):  # the same search, started twice, deletes it as well
        _repository(store, root).delete_artifacts(folder)
    if tags.MODEL in known:
        with _if_there():
            store.client.delete_tag(run_id, tags.MODEL)


@contextmanager
def _if_there() -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


def _is_local(place: str) -> bool:
    return urlsplit(place).scheme in ("", "file")


def _repository(store: Store, place: str) -> ArtifactRepository:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(place, tracking_uri=store.uri)
