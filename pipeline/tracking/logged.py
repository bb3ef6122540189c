"""A logged run, read back: everything needed to run it again and to check the result.

Nothing in it is trusted: it may come from somebody else.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import TrackingError
from pipeline.common.secrets import masked
from pipeline.common.text import printable
from pipeline.config.migrations import migrated
from pipeline.config.untrusted import MOST_BYTES, MOST_JSON_BYTES, read_config, read_json
from pipeline.tracking import tags
from pipeline.tracking.metrics import History, history, migrated_metrics
from pipeline.tracking.record import CONFIG_FILE, DIFF_FILE, INPUTS_FILE, PROVENANCE_FILE, as_json
from pipeline.tracking.signature import SIGNATURE_FILE
from pipeline.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

log = logging.getLogger(__name__)

RESULTS_FILE = "results.json"  # of an exported folder: the run's results

_ARTIFACTS = (CONFIG_FILE, PROVENANCE_FILE, INPUTS_FILE, DIFF_FILE, SIGNATURE_FILE)


@dataclass(frozen=True)
class LoggedRun:
    """A run's record, read."""

    place: str  # where it was read, for messages
    run_id: str
    name: str
    experiment: str | None  # the MLflow experiment; None: of a folder
    state: str  # complete, pruned, failed …
    config: bytes  # config.yaml
    provenance: Mapping[str, Any]  # code, packages, machine …; empty where it was not recorded
    inputs: Mapping[str, Any]  # digests of data and model; likewise
    predictions: Mapping[str, str]  # digest of the raw outputs by split
    histories: Mapping[str, History]  # by metric
    diff: bytes = b""  # changes of the project since its commit
    signature: bytes = b""  # what `pipeline.tracking.signature` made of the config

    def tree(self) -> dict[str, Any]:
        """Return the config, as it would be written today.

        Raises:
            ConfigError: where `read_config` refuses it.
        """
        return migrated(read_config(self.config, f"{self.place}, config.yaml"))


def read(store: Store, source: str) -> LoggedRun:
    """Read a run by its id, or a folder that `write_folder` made.

    Raises:
        TrackingError: where there is no such run or folder, or its record is not whole.
    """
    folder = Path(source)
    return _read_folder(folder) if folder.is_dir() else _read_run(store, source)


def restore(store: Store, run_id: str) -> None:
    """Bring back a run that was deleted in MLflow."""
    store.client.restore_run(run_id)


def find_run(store: Store, run_id: str) -> Run:
    """Return a run of ours by its id.

    Raises:
        TrackingError: where there is none, or it is a study or somebody else's.
    """
    from mlflow.exceptions import MlflowException

    where = masked(store.uri)
    store.check_store()
    try:
        run = store.client.get_run(run_id)
    except MlflowException as error:
        raise TrackingError(
            f"{run_id}: no such run in {where} ({printable(str(error).splitlines()[0])[:200]}). "
            "`tunewright runs` lists the runs; tracking.uri=… names another store."
        ) from error
    if run.info.lifecycle_stage == "deleted":
        raise TrackingError(
            f"{run_id}: this run was deleted in {where}. Restore it (mlflow runs restore --run-id "
            f"{run_id})."
        )
    kind = run.data.tags.get(tags.KIND)
    if kind == "study":
        best = run.data.tags.get(tags.BEST_RUN, "none yet")
        raise TrackingError(
            f"{run_id}: a study; expected one of its trials. The best one's run is {best}."
        )
    if kind not in ("run", "trial", "soup"):
        raise TrackingError(f"{run_id}: not a run of tunewright (no tag {tags.KIND}) in {where}.")
    return run


def is_whole(store: Store, run_id: str) -> bool:
    """Whether a run's record holds its config, which is written right after it is opened."""
    return CONFIG_FILE in {found.path for found in store.client.list_artifacts(run_id)}


def origin_of(store: Store, run_id: str) -> LoggedRun | None:
    """Return the record that a rerun was made from; None for any other run.

    Raises:
        TrackingError: where it is not there any more, or was a folder.
    """
    origin = find_run(store, run_id).data.tags.get(tags.RERUN_OF)
    return _read_run(store, origin) if origin else None


def note_verdict(store: Store, record: LoggedRun, rerun_id: str, verdict: str) -> None:
    """Put the verdict on a rerun, and the rerun's id on the run that it was made from."""
    from mlflow.exceptions import MlflowException

    store.client.set_tag(rerun_id, tags.VERDICT, verdict[: tags.MOST_CHARACTERS])
    if record.experiment is None:  # of a folder
        return
    try:
        store.client.set_tag(record.run_id, tags.RERUN_BY, rerun_id)
    except MlflowException:  # it may be somebody else's, to be read only
        log.warning("%s cannot be tagged with its rerun", record.run_id, exc_info=True)


def write_folder(logged: LoggedRun, folder: Path) -> None:
    """Write a record into a folder, from which `read` reads it without a tracking server."""
    results = {
        "run_id": logged.run_id,
        "name": logged.name,
        "state": logged.state,
        "predictions": logged.predictions,
        "histories": logged.histories,
    }
    (folder / CONFIG_FILE).write_bytes(logged.config)
    for file, content in (
        (PROVENANCE_FILE, logged.provenance),
        (INPUTS_FILE, logged.inputs),
        (RESULTS_FILE, results),
    ):
        (folder / file).write_text(as_json(content), encoding="utf-8")
    for file, text in ((DIFF_FILE, logged.diff), (SIGNATURE_FILE, logged.signature)):
        if text:
            (folder / file).write_bytes(text)


def _read_run(store: Store, run_id: str) -> LoggedRun:
    run = find_run(store, run_id)
    place = f"run {run_id} in {masked(store.uri)}"
    files = _artifacts(store, run_id, place)
    if CONFIG_FILE not in files:
        raise TrackingError(f"{place}: has no artifact {CONFIG_FILE}, so it cannot be run again.")
    known = run.data.tags
    return LoggedRun(
        place=place,
        run_id=run_id,
        name=printable(run.info.run_name or run_id),
        experiment=store.client.get_experiment(run.info.experiment_id).name,
        state=known.get(tags.STATE, ""),
        config=files[CONFIG_FILE],
        provenance=_mapping(files.get(PROVENANCE_FILE), f"{place}, {PROVENANCE_FILE}"),
        inputs=_mapping(files.get(INPUTS_FILE), f"{place}, {INPUTS_FILE}"),
        predictions=_mapping(known.get(tags.PREDICTIONS, "{}").encode(), tags.PREDICTIONS),
        histories=migrated_metrics(
            {name: history(store, run_id, name) for name in run.data.metrics}
        ),
        diff=files.get(DIFF_FILE, b""),
        signature=files.get(SIGNATURE_FILE, b""),
    )


def _read_folder(folder: Path) -> LoggedRun:
    place = str(folder)
    if not (folder / CONFIG_FILE).is_file() or not (folder / RESULTS_FILE).is_file():
        raise TrackingError(
            f"{place}: no exported run: expected {CONFIG_FILE} and {RESULTS_FILE}, as "
            "`tunewright export RUN_ID DIR` writes them."
        )
    names = (*_ARTIFACTS, RESULTS_FILE)
    files = {}
    for path in (folder / name for name in names):
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise TrackingError(f"{place}: {path.name} is no regular file, as an exported one is.")
        if path.exists():
            files[path.name] = _bounded(path, place)
    results = _mapping(files[RESULTS_FILE], f"{place}/{RESULTS_FILE}")
    try:
        histories = {
            str(metric): {int(step): float(value) for step, value in points.items()}
            for metric, points in results["histories"].items()
        }
        run_id, name, state = (str(results[key]) for key in ("run_id", "name", "state"))
        predictions = {str(k): str(v) for k, v in results["predictions"].items()}
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise TrackingError(
            f"{place}/{RESULTS_FILE}: not as `tunewright export` writes it ({error!r})."
        ) from error
    return LoggedRun(
        place=place,
        run_id=run_id,
        name=printable(name),
        experiment=None,
        state=state,
        config=files[CONFIG_FILE],
        provenance=_mapping(files.get(PROVENANCE_FILE), f"{place}/{PROVENANCE_FILE}"),
        inputs=_mapping(files.get(INPUTS_FILE), f"{place}/{INPUTS_FILE}"),
        predictions=predictions,
        histories=migrated_metrics(histories),
        diff=files.get(DIFF_FILE, b""),
        signature=files.get(SIGNATURE_FILE, b""),
    )


def _artifacts(store: Store, run_id: str, place: str) -> dict[str, bytes]:
    """Read the artifacts that a rerun needs; one that is too large is not downloaded."""
    from mlflow.exceptions import MlflowException

    files = {f.path: f for f in store.client.list_artifacts(run_id) if not f.is_dir}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in filter(files.__contains__, _ARTIFACTS):
            size = files[name].file_size
            _check_size(name, math.inf if size is None else size, place)
            try:
                path = store.client.download_artifacts(run_id, name, folder)
                found[name] = _bounded(Path(path), place)
            except (MlflowException, OSError) as error:
                reason = printable(str(error).splitlines()[0])[:200]
                raise TrackingError(f"{place}: {name} cannot be read ({reason}).") from error
    return found


def _bounded(path: Path, place: str) -> bytes:
    _check_size(path.name, path.stat().st_size, place)
    return path.read_bytes()


def _check_size(name: str, size: float, place: str) -> None:
    most = MOST_BYTES if name == CONFIG_FILE else MOST_JSON_BYTES
    if size > most:
        raise TrackingError(f"{place}: {name} has {size:,} bytes; expected at most {most:,}.")


def _mapping(text: bytes | None, place: str) -> Mapping[str, Any]:
    """Read a JSON object; nothing where there is none."""
    content = read_json(text, place) if text else {}
    if not isinstance(content, dict):
        raise TrackingError(f"{place}: expected a JSON object, found {type(content).__name__}.")
    return content
