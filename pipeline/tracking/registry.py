"""Kept models: given a name in MLflow's registry, and fetched by it or by their run."""

from __future__ import annotations

import json
import logging
import re
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import ConfigError, TrackingError, did_you_mean, listing
from pipeline.common.secrets import masked
from pipeline.common.text import printable
from pipeline.tracking import tags
from pipeline.tracking.kept_models import REGISTERED, has_model, model_files, place_of
from pipeline.tracking.location import local_path
from pipeline.tracking.logged import find_run
from pipeline.tracking.overview import objectives_of, score_of
from pipeline.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

log = logging.getLogger(__name__)

_MODELS = "models:/"
_RUN_ID, _MODEL_ID = re.compile("[0-9a-f]{32}"), re.compile("m-[0-9a-f]{32}")


@dataclass(frozen=True)
class Version:
    """A model in the registry."""

    name: str
    version: int

    @property
    def uri(self) -> str:
        """Its MLflow URI."""
        return f"{_MODELS}{self.name}/{self.version}"


def register(store: Store, run_id: str, name: str) -> Version:
    """Make a run's model the next version of a name in the registry; the run keeps its model.

    Raises:
        ConfigError: for a name that cannot be.
        TrackingError: where there is no such run, it keeps no model, or the registry refuses.
    """
    from mlflow.exceptions import MlflowException

    _check_name(name)
    run = find_run(store, run_id)
    _check_model(store, run)
    previous = run.data.tags.get(REGISTERED)
    names = {*json.loads(previous or "[]"), name}
    try:
        # First: from now on a search that finds a better trial leaves the model alone.
        store.client.set_tag(run_id, REGISTERED, json.dumps(sorted(names)))
        _make_name(store, name)
        model_id = run.data.tags.get(tags.MODEL)
        made = store.client.create_model_version(
            name, place_of(run), run_id, tags=_notes(store, run), model_id=model_id
        )
    except MlflowException as error:
        with suppress(MlflowException):  # of an unreachable store, which is reported below
            if previous is None:
                store.client.delete_tag(run_id, REGISTERED)
            else:
                store.client.set_tag(run_id, REGISTERED, previous)
        raise TrackingError(
            f"{name}: the registry of {masked(store.uri)} refuses it: {_reason(error)}."
        ) from error
    if model_id:
        _link(store, model_id, made)
    return Version(name, int(made.version))


@contextmanager
def model_folder(store: Store, source: str) -> Iterator[Path]:
    """Yield the folder of a model, fetched into a temporary one where it is not on this disk.

    Args:
        store: where runs and registry are.
        source: a folder, a run's id, a registered name (its latest version), or MLflow's
            ``models:/MODEL_ID``, ``models:/NAME/VERSION`` and ``models:/NAME@ALIAS``.

    Raises:
        TrackingError: where there is no such model.
    """
    if source and Path(source).is_dir():
        yield Path(source)
        return
    uri = _uri_of_run(store, source) if _RUN_ID.fullmatch(source) else _uri_of(store, source)
    path = Path(local_path(uri))
    if path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="tunewright-model-") as folder:
        yield _download(store, source, uri, folder)


def _check_name(name: str) -> None:
    if not name.strip() or re.search(r"[/:@]", name) or name.strip(".") == "":
        raise ConfigError(
            f"{printable(name)!r}: cannot be the name of a model; expected one without /, : or @, "
            "as sentiment-minilm."
        )
    if _RUN_ID.fullmatch(name) or _MODEL_ID.fullmatch(name):
        raise ConfigError(f"{name}: looks like the id of a run or model; expected another name.")


def _check_model(store: Store, run: Run) -> None:
    """Refuse a run that keeps no model, or one that MLflow cannot serve."""
    run_id, state = run.info.run_id, run.data.tags.get(tags.STATE, "unknown")
    if not has_model(store, run):
        why = "a run keeps it when it is complete"
        tuned = run.data.tags.get(tags.TUNED_MODEL)
        if run.data.tags.get(tags.KIND) == "trial":
            study = run.data.tags.get(tags.STUDY, "STUDY")
            why = (
                "a trial keeps it only while it is among the best of its study, as many as "
                "tracking.keep_models says; `tunewright best "
                f"{printable(shlex.quote(study))}` shows that one's run"
            )
        if tuned:
            why = (
                f"it is at the service that tuned it, by the name {printable(tuned)}; ask it there"
            )
        raise TrackingError(f"{run_id}: this {state} run keeps no model: {why}.")
    if "MLmodel" not in model_files(store, run):
        raise TrackingError(
            f"{run_id}: its model was kept by an earlier version of tunewright, without the file "
            "MLmodel; expected one that MLflow can serve: `tunewright rerun` makes the run again."
        )


def _make_name(store: Store, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        store.client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _link(store: Store, model_id: str, made: ModelVersion) -> None:
    """Tell a logged model its version in the registry, as `mlflow.register_model` does."""
    from mlflow.exceptions import MlflowException
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

    try:
        known = store.client.get_logged_model(model_id).tags.get(MLFLOW_MODEL_VERSIONS, "[]")
        versions = [*json.loads(known), {"name": made.name, "version": made.version}]
        store.client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: json.dumps(versions)})
    except MlflowException as error:  # it is registered all the same
        log.warning("model %s does not name version %s: %s", model_id, made.version, error)


def _notes(store: Store, run: Run) -> dict[str, str]:
    """Return a version's tags: its run, task, objective and score."""
    notes = {f"{tags.PREFIX}run_id": str(run.info.run_id)}
    task = run.data.params.get("task.name")
    if task:
        notes[f"{tags.PREFIX}task"] = task
    goal = objectives_of(run)[0]
    score = score_of(store, run, goal)
    if score is not None:
        notes |= {tags.OBJECTIVE: goal, f"{tags.PREFIX}score": f"{score:.6g}"}
    return notes


def _uri_of_run(store: Store, run_id: str) -> str:
    run = find_run(store, run_id)
    if not has_model(store, run):
        _check_model(store, run)
    return place_of(run)


def _uri_of(store: Store, source: str) -> str:
    """Return where the files of a registered model are."""
    from mlflow.exceptions import MlflowException

    store.check_store()
    name, _, alias = source.removeprefix(_MODELS).partition("@")
    name, _, version = name.partition("/")
    try:
        if _MODEL_ID.fullmatch(name):
            return str(store.client.get_logged_model(name).artifact_location)
        if alias:
            version = str(store.client.get_model_version_by_alias(name, alias).version)
        elif version in ("", "latest"):
            version = str(max(int(v.version) for v in _versions(store, name)))
        return str(store.client.get_model_version_download_uri(name, version))
    except (MlflowException, ValueError) as error:
        raise TrackingError(_unknown(store, source, name)) from error


def _versions(store: Store, name: str) -> list[Any]:
    quoted = name.replace("'", "")
    return list(store.client.search_model_versions(f"name = '{quoted}'"))


def _unknown(store: Store, source: str, name: str) -> str:
    known = [model.name for model in store.client.search_registered_models(max_results=1000)]
    if name in known:
        there = sorted(int(v.version) for v in _versions(store, name))
        return (
            f"{printable(source)}: the model {name} has no such version; it has "
            f"{listing(map(str, there)) or 'none'}."
        )
    names = f" Known: {listing(known)}." if known else " None is registered yet."
    return (
        f"{printable(source)}: expected the id of a run, a registered model (NAME or "
        f"models:/NAME/VERSION) or a folder; {masked(store.uri)} has no model of that name."
        f"{did_you_mean(name, known)}{names}"
    )


def _download(store: Store, source: str, uri: str, folder: str) -> Path:
    import mlflow.artifacts
    from mlflow.exceptions import MlflowException

    try:
        path = mlflow.artifacts.download_artifacts(
            artifact_uri=uri, dst_path=folder, tracking_uri=store.uri
        )
    except (MlflowException, OSError) as error:
        raise TrackingError(
            f"{printable(source)}: its files cannot be fetched from {masked(uri)}: "
            f"{_reason(error)}."
        ) from error
    return Path(path)


def _reason(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return printable(masked(text.splitlines()[0]))[:300].rstrip(".")
