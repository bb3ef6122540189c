"""The record of a run: opened first, written in batches during training, closed with a state."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pipeline.common.contract import State
from pipeline.common.errors import SearchStopped, TrialStoppedError, reason_of
from pipeline.common.secrets import masked_value
from pipeline.common.timing import booked
from pipeline.tracking import tags
from pipeline.tracking.kept_models import logged_model
from pipeline.tracking.store import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.entities import DatasetInput, Metric

    from pipeline.serving.predictor import Interface

log = logging.getLogger(__name__)

# Artifacts by which a run can be run again and checked.
CONFIG_FILE, INPUTS_FILE = "config.yaml", "inputs.json"
PROVENANCE_FILE, DIFF_FILE = "provenance.json", "code.diff"
COST_FILE, ACCOUNT = "cost.json", "account"  # what a run or study cost; where its time went
RUN_SECONDS = "time/run_seconds"  # metric: by the clock, while the record was open

# What MLflow takes at once, and the longest parameter value.
PARAMS_A_BATCH, METRICS_A_BATCH, PARAM_LENGTH = 100, 1000, 6000
DATASET_NAME = 500  # characters of a data set's name that MLflow takes
INPUT_ATTEMPTS = 5  # at storing data sets that other trials store as well
FLUSH_SECONDS = 2.0  # points are sent in batches, at most one in this time

# MLflow knows no pruned runs; a paused one is not over.
_STATUS: Mapping[State, str | None] = {"complete": "FINISHED", "pruned": "KILLED", "paused": None}


class Record:
    """One MLflow run that is being written.

    Metrics are buffered and sent by a thread of the record's own, so that no training step waits
    for the store. What the thread could not write is raised when the record is closed, or by what
    `flush` returns. Leaving the ``with`` block by an exception closes the run as failed, with the
    reason; as pruned, where a user ended the trial.

    Args:
        store: where the run is.
        name: shown in the UI.
        params: logged once, at the start.
        run_tags: what the run is.
        parent_run_id: of the study that it is part of.
        run_id: of a run that is resumed, instead of a new one.
        was_cut_off: whether that run did not pause, but was cut off: it is opened again, and a
            point of a step that is done again is logged once.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        params: Mapping[str, Any],
        run_tags: Mapping[str, str],
        parent_run_id: str | None = None,
        run_id: str | None = None,
        *,
        was_cut_off: bool = False,
    ) -> None:
        self._store = store
        self._state: State = "complete"
        all_tags = {"mlflow.runName": name, tags.STATE: "running", **run_tags}
        if parent_run_id:
            all_tags["mlflow.parentRunId"] = parent_run_id
        self._opened = _now()
        self._ran = 0.0  # seconds before a pause
        self._last_step = 0
        with booked("logging"):
            self.run_id = run_id or store.create_run(name, self._opened, all_tags)
            if run_id and not was_cut_off:
                known = store.client.get_run(run_id).data.metrics
                self._ran = known.get(RUN_SECONDS, 0.0)
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mlflow")
        self._pending: list[Future[None]] = []
        self._points: list[Metric] = []
        self._tables: list[str] = []  # their files
        self._last_flush = time.monotonic()
        self._log_file: Path | None = None
        self._was_cut_off = was_cut_off
        self._logged: Counter[tuple[str, int]] = Counter()  # points of an earlier process
        if run_id is None:
            self._do(log_params, store, self.run_id, dict(params))
        else:
            self.tag(state="running")
        if was_cut_off:
            self._open_again(name, run_tags)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Add a point to each of these metrics' histories."""
        self._add(values, step, 0)

    def closing(self, values: Mapping[str, float], step: int) -> None:
        """Add closing points, see `pipeline.tracking.metrics`, to those of this step."""
        self._add(values, step, 1)

    def _add(self, values: Mapping[str, float], step: int, earlier: int) -> None:
        """Add a point to each, later by the clock than the ``earlier`` ones of its step."""
        from mlflow.entities import Metric

        time_of_it = _now() + earlier
        self._last_step = max(self._last_step, step)
        self._points += [
            Metric(key, float(value), time_of_it, step)
            for key, value in values.items()
            if self._logged[key, step] <= earlier
        ]
        full = len(self._points) >= METRICS_A_BATCH
        if full or time.monotonic() - self._last_flush > FLUSH_SECONDS:
            self._flush()

    def tag(self, **values: str) -> None:
        """Set tags of ours: ``tag(state="complete")`` sets ``tunewright.state``."""
        for key, value in values.items():
            text = value[: tags.MOST_CHARACTERS]
            self._do(self._store.client.set_tag, self.run_id, f"{tags.PREFIX}{key}", text)

    def text(self, text: str, file: str) -> None:
        """Store a text as an artifact."""
        self._do(self._store.client.log_text, self.run_id, text, file)

    def texts(self, texts: Mapping[str, str]) -> None:
        """Store texts as artifacts by file name, at once: each call asks the store for the run."""
        if texts:
            self._do(_write_texts, self._store, self.run_id, dict(texts))

    def another(self, text: str, file: str) -> None:
        """Store a text next to that of an earlier process: ``train.2.log`` for ``train.log``."""
        self._do(self._keep_another, text, file)

    def inputs(self, inputs: Mapping[str, Any]) -> None:
        """Store what `pipeline.training.prepare.inputs` returns, and splits as MLflow data sets."""
        self.text(as_json(inputs), INPUTS_FILE)
        self._do(log_datasets, self._store, self.run_id, inputs["data"])

    def figure(self, figure: Figure, file: str) -> None:
        """Store a picture as an artifact."""
        # Figures are drawn here: matplotlib is not safe to use from a second thread.
        with booked("logging"), tempfile.TemporaryDirectory() as folder:
            figure.savefig(Path(folder) / file)
            self._store.client.log_artifact(self.run_id, str(Path(folder) / file))

    def table(self, columns: Mapping[str, list[Any]], file: str) -> None:
        """Store a table that the MLflow UI shows: a JSON file of columns and rows."""
        rows = [list(row) for row in zip(*columns.values(), strict=True)]
        self.text(json.dumps({"columns": list(columns), "data": rows}, ensure_ascii=False), file)
        self._tables.append(file)
        listed = json.dumps([{"path": name, "type": "table"} for name in self._tables])
        self._do(self._store.client.set_tag, self.run_id, "mlflow.loggedArtifacts", listed)

    def model(self, folder: Path, interface: Interface, step: int) -> None:
        """Make a folder of `pipeline.serving.saved` an MLflow model, and keep it as the run's.

        Its weights are those of ``step``.
        """
        from pipeline.tracking.mlmodel import write

        self.flush()()  # the model gets the run's parameters and scores
        with logged_model(self._store, self.run_id, step) as model_id:
            write(folder, interface, self.run_id, model_id)
            self._store.client.log_model_artifacts(model_id, str(folder))

    def log_file(self, path: Path) -> None:
        """Name the run's log file; it is stored when the record is closed."""
        self._log_file = path

    def flush(self) -> Callable[[], None]:
        """Begin to write all that is buffered; return what waits for it, and raises its error."""
        self._flush()
        pending = list(self._pending)

        def wait() -> None:
            for written in pending:
                written.result()

        return wait

    def end(self, state: State) -> None:
        """Set the state of the run if nothing goes wrong; the default is complete."""
        self._state = state

    def __enter__(self) -> Record:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        failure = error or self._finish()
        if failure is None:
            self._close(_STATUS[self._state], state=self._state)
            return
        if isinstance(failure, TrialStoppedError):
            log.info("%s", failure)
            self._close(_STATUS["pruned"], state="pruned", reason=str(failure))
            return
        log.error("the run failed", exc_info=failure)  # now: the log file is stored below
        status = "KILLED" if isinstance(failure, SearchStopped) else "FAILED"
        self._close(status, state="failed", reason=reason_of(failure))
        if error is None:
            raise failure

    def _finish(self) -> BaseException | None:
        """Wait until all is written; return the first error of what could not be."""
        if self._points:
            self._flush()
        pending, self._pending = self._pending, []
        with booked("logging"):
            failures = [written.exception() for written in pending]
        return next((failure for failure in failures if failure), None)

    def _close(self, status: str | None, **notes: str) -> None:
        now = _now()
        self.seconds = self._ran + (now - self._opened) / 1000
        self.metrics({RUN_SECONDS: self.seconds}, self._last_step)
        self.tag(**notes)
        if self._log_file and self._log_file.is_file():
            for handler in logging.getLogger().handlers:
                handler.flush()
            self._do(self._keep_log, self._log_file)
        if status is not None:
            self._do(self._store.client.set_terminated, self.run_id, status, now)
        incomplete = self._finish()
        self._writer.shutdown(wait=True)
        if incomplete and notes["state"] != "failed":
            raise incomplete

    def _open_again(self, name: str, run_tags: Mapping[str, str]) -> None:
        client, run_id = self._store.client, self.run_id
        for key, value in run_tags.items():  # of the new process; a trial's new number
            client.set_tag(run_id, key, value)
        client.update_run(run_id, status="RUNNING", name=name)
        run = client.get_run(run_id)
        if tags.REASON in run.data.tags:
            client.delete_tag(run_id, tags.REASON)
        for key in run.data.metrics:
            self._logged.update((key, p.step) for p in client.get_metric_history(run_id, key))

    def _keep_log(self, path: Path) -> None:
        if self._was_cut_off:
            self._keep_another(path.read_text(encoding="utf-8"), path.name)
        else:
            self._store.client.log_artifact(self.run_id, str(path))

    def _keep_another(self, text: str, file: str) -> None:
        known = {found.path for found in self._store.client.list_artifacts(self.run_id)}
        name, number = Path(file), 1
        while file in known:
            number += 1
            file = f"{name.stem}.{number}{name.suffix}"
        self._store.client.log_text(self.run_id, text, file)

    def _flush(self) -> None:
        points, self._points = self._points, []
        self._last_flush = time.monotonic()
        self._do(self._write_metrics, points)

    def _do(self, action: Callable[..., Any], *args: Any) -> None:
        self._pending.append(self._writer.submit(action, *args))

    def _write_metrics(self, points: list[Metric]) -> None:
        for start in range(0, len(points), METRICS_A_BATCH):
            some = points[start : start + METRICS_A_BATCH]
            self._store.client.log_batch(self.run_id, metrics=some)


def as_json(content: Mapping[str, Any]) -> str:
    """Return plain values as the text of an artifact, without secrets.

    Packages are by their names, and one such as `detect-secrets` is no key that holds a secret.
    """
    shown = masked_value("", content)
    packages = content.get("packages")
    if isinstance(packages, Mapping):
        shown["packages"] = {name: masked_value("", version) for name, version in packages.items()}
    return json.dumps(shown, ensure_ascii=False, indent=1)


def _write_texts(store: Store, run_id: str, texts: Mapping[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for file, text in texts.items():
            Path(folder, file).write_bytes(text.encode())  # the very bytes that are signed
        store.client.log_artifacts(run_id, folder)


def log_datasets(store: Store, run_id: str, data: Mapping[str, Any]) -> None:
    """Store what `pipeline.training.prepare.data_inputs` returns as a run's data sets.

    MLflow refuses one that another process of the experiment adds just now.
    """
    from mlflow.exceptions import MlflowException

    datasets = _datasets(data)
    for attempt in range(INPUT_ATTEMPTS):
        try:
            store.client.log_inputs(run_id, datasets)
            return
        except MlflowException:
            if attempt + 1 == INPUT_ATTEMPTS:
                raise
            time.sleep(0.1 * (attempt + 1))  # then it is there


def _datasets(data: Mapping[str, Any]) -> list[DatasetInput]:
    """Return the splits as MLflow's own data sets, which its UI shows and searches."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    return [
        DatasetInput(
            Dataset(
                name=data["name"][-DATASET_NAME:],
                digest=split["digest"],
                source_type=data["source"],
                source=json.dumps({"name": data["name"], "sha256": data["files"].get(name)}),
                profile=json.dumps({"num_rows": split["rows"]}),
            ),
            [InputTag("mlflow.data.context", name)],
        )
        for name, split in data["splits"].items()
    ]


def _now() -> int:
    """Return the time as MLflow writes it, in milliseconds."""
    return int(time.time() * 1000)


def log_params(store: Store, run_id: str, params: Mapping[str, Any]) -> None:
    """Write parameters, each cut to the length MLflow takes."""
    from mlflow.entities import Param

    every = [Param(key, value) for key, value in as_params(params).items()]
    for start in range(0, len(every), PARAMS_A_BATCH):
        store.client.log_batch(run_id, params=every[start : start + PARAMS_A_BATCH])


def as_params(params: Mapping[str, Any]) -> dict[str, str]:
    """Return parameters as they are logged: without secrets, each cut to MLflow's length."""
    return {k: str(masked_value(k, value))[:PARAM_LENGTH] for k, value in params.items()}
