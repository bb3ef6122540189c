"""The record of a run: opened first, written in batches beside training, closed with a state."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from pipeline.tracking import tags
from pipeline.tracking.store import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.entities import Metric

log = logging.getLogger(__name__)

# What MLflow takes at once, and the longest parameter value.
PARAMS_A_BATCH, METRICS_A_BATCH, PARAM_LENGTH = 100, 1000, 6000
FLUSH_SECONDS = 2.0  # points are sent in batches, at most one in this time


EndState = Literal["complete", "pruned", "paused"]
# MLflow knows no pruned runs; a paused one is not over.
_STATUS: Mapping[EndState, str | None] = {
    "complete": "FINISHED",
    "pruned": "KILLED",
    "paused": None,
}


class Record:
    """One MLflow run that is being written.

    Metrics are buffered and sent by a thread of the record's own, so that no training step waits
    for the store. What the thread could not write is raised when the record is closed. Leaving the
    ``with`` block by an exception closes the run as failed, with the reason.

    Args:
        store: where the run is.
        name: shown in the UI.
        params: logged once, at the start.
        run_tags: what the run is.
        parent_run_id: of the study that it is part of.
        run_id: of a paused run that goes on, instead of a new one.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        params: Mapping[str, Any],
        run_tags: Mapping[str, str],
        parent_run_id: str | None = None,
        run_id: str | None = None,
    ) -> None:
        self._store = store
        self._state: EndState = "complete"
        all_tags = {"mlflow.runName": name, tags.STATE: "running", **run_tags}
        if parent_run_id:
            all_tags["mlflow.parentRunId"] = parent_run_id
        self.run_id: str = run_id or _create_run(store, name, all_tags)
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mlflow")
        self._pending: list[Future[None]] = []
        self._points: list[Metric] = []
        self._last_flush = time.monotonic()
        self._log_file: Path | None = None
        if run_id is None:
            self._do(log_params, store, self.run_id, dict(params))
        else:
            self.tag(state="running")

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Add a point to each of these metrics' histories."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)  # milliseconds
        self._points += [Metric(key, float(value), now, step) for key, value in values.items()]
        full = len(self._points) >= METRICS_A_BATCH
        if full or time.monotonic() - self._last_flush > FLUSH_SECONDS:
            self._flush()

    def tag(self, **values: str) -> None:
        """Set tags of ours: ``tag(state="complete")`` sets ``tunewright.state``."""
        for key, value in values.items():
            self._do(self._store.client.set_tag, self.run_id, f"{tags.PREFIX}{key}", value[:5000])

    def text(self, text: str, file: str) -> None:
        """Store a text as an artifact."""
        self._do(self._store.client.log_text, self.run_id, text, file)

    def figure(self, figure: Figure, file: str) -> None:
        """Store a picture as an artifact."""
        # Figures are drawn here: matplotlib is not safe to use from a second thread.
        with tempfile.TemporaryDirectory() as folder:
            figure.savefig(Path(folder) / file)
            self._store.client.log_artifact(self.run_id, str(Path(folder) / file))

    def table(self, columns: Mapping[str, list[Any]], file: str) -> None:
        """Store a table that the MLflow UI shows: a JSON file of columns and rows."""
        rows = [list(row) for row in zip(*columns.values(), strict=True)]
        content = json.dumps({"columns": list(columns), "data": rows}, ensure_ascii=False)
        self.text(content, file)
        listed = json.dumps([{"path": file, "type": "table"}])
        self._do(self._store.client.set_tag, self.run_id, "mlflow.loggedArtifacts", listed)

    def folder(self, folder: Path, name: str) -> None:
        """Store a folder's files as artifacts under ``name``, now."""
        self._store.client.log_artifacts(self.run_id, str(folder), name)

    def log_file(self, path: Path) -> None:
        """Name the run's log file; it is stored when the record is closed."""
        self._log_file = path

    def end(self, state: EndState) -> None:
        """Say how the run ends if nothing goes wrong: complete, unless said here."""
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
        log.error("the run failed", exc_info=failure)  # now: the log file is stored below
        self._close("FAILED", state="failed", reason=reason(failure))
        if error is None:
            raise failure

    def _finish(self) -> BaseException | None:
        """Wait until all is written; return the first error of what could not be."""
        if self._points:
            self._flush()
        pending, self._pending = self._pending, []
        failures = [written.exception() for written in pending]
        return next((failure for failure in failures if failure), None)

    def _close(self, status: str | None, **notes: str) -> None:
        self.tag(**notes)
        if self._log_file and self._log_file.is_file():
            for handler in logging.getLogger().handlers:
                handler.flush()
            self._do(self._store.client.log_artifact, self.run_id, str(self._log_file))
        if status is not None:
            self._do(self._store.client.set_terminated, self.run_id, status)
        incomplete = self._finish()
        self._writer.shutdown(wait=True)
        if incomplete and status != "FAILED":
            raise incomplete

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


def _create_run(store: Store, name: str, run_tags: dict[str, str]) -> str:
    run = store.client.create_run(store.experiment_id, tags=run_tags, run_name=name)
    return str(run.info.run_id)


def log_params(store: Store, run_id: str, params: Mapping[str, Any]) -> None:
    """Write parameters, each cut to the length MLflow takes."""
    from mlflow.entities import Param

    every = [Param(key, str(value)[:PARAM_LENGTH]) for key, value in params.items()]
    for start in range(0, len(every), PARAMS_A_BATCH):
        store.client.log_batch(run_id, params=every[start : start + PARAMS_A_BATCH])


def reason(error: BaseException) -> str:
    """Say in one line why a run failed, its kind first.

    The kinds: oom, diverged, timeout, stopped (`sys.exit` or Ctrl-C), refused, error.
    """
    from pipeline.errors import DivergedError, TrialTimeoutError, TunewrightError

    text = str(error).strip()
    first_line = text.splitlines()[0] if text else "no message"
    memory = isinstance(error, MemoryError) or any(
        sign in text.lower() for sign in ("out of memory", "can't allocate memory", "alloc_failed")
    )
    if memory:
        return f"oom: {first_line}"
    if isinstance(error, DivergedError):
        return f"diverged: {text}"
    if isinstance(error, TrialTimeoutError):
        return f"timeout: {text}"
    if isinstance(error, SystemExit | KeyboardInterrupt):
        return f"stopped: {type(error).__name__} {text}".rstrip()
    if isinstance(error, TunewrightError):
        return f"refused: {text}"
    return f"error: {type(error).__name__}: {first_line}"
