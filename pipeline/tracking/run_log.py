"""What a run writes into its record, and on the terminal, as it goes."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.common.timing import Account, booked, ledger
from pipeline.config.experiment import Experiment
from pipeline.serving.saved import save_checked
from pipeline.tracking.record import Record
from pipeline.training.hooks import TrainingHook
from pipeline.training.outcome import RUN_LOGGER, Result
from pipeline.training.prepare import Prepared, inputs

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from pipeline.training.best import Evaluations
    from pipeline.training.results import Judged
    from pipeline.training.snapshot import Snapshot

log = logging.getLogger(RUN_LOGGER)


class RunLog(TrainingHook):
    """Writes down in a run's open record what the run reads, how it goes and what it found."""

    def __init__(self, record: Record, experiment: Experiment, data: Prepared) -> None:
        self._record, self._experiment, self._data = record, experiment, data
        self._last_step = 0  # of the training, once it has ended or is paused

    def on_start(self, snapshot: Snapshot | None) -> None:
        """Log, once, what is read and how much of it."""
        if snapshot is not None:
            log.info("resumed at step %d", snapshot.step)
            return
        record, data = self._record, self._data
        record.inputs(inputs(self._experiment))
        for name, examples in data.examples.items():
            counts = {
                "rows": len(examples.rows),
                "examples": len(examples.dataset),
                "long": examples.truncated,
                "dropped": examples.dropped,
            }
            record.metrics({f"data/{name}_{what}": count for what, count in counts.items()})
            if examples.truncated:
                log.info(
                    "%s: %d of %d rows are too long, task.long_rows=%s",
                    name,
                    examples.truncated,
                    len(examples.rows),
                    data.task.config.long_rows,
                )
        for warning in data.warnings:
            log.warning("data: %s", warning)
        record.metrics({"cost/data_seconds": data.seconds})
        if data.task.labels:
            record.tag(labels=", ".join(data.task.labels))

    def on_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Log and show metrics."""
        self._record.metrics(metrics, step)
        shown = (f"{k} {v:.4g}" for k, v in metrics.items() if k.count("/") == 1)
        log.info("step %d: %s", step, ", ".join(shown))

    def flush(self) -> Callable[[], None]:
        """Begin to write all that is buffered."""
        return self._record.flush()

    def outcome(
        self,
        result: Result,
        evaluations: Evaluations,
        judged: Judged | None,
        exceptions: set[str],
        resumed: Snapshot | None,
    ) -> Result:
        """Log what the training gave, and return the result with the metrics of the judging.

        Nothing is judged where the search ended the run. The exceptions are operations that had no
        deterministic algorithm.
        """
        best, last = evaluations.best, evaluations.last
        assert best is not None
        assert last is not None
        digests = {best.split: best.digest}
        if judged:
            result = replace(result, metrics={**result.metrics, **judged.metrics})
            if judged.split == "test":
                digests["test"] = judged.evaluation.digest
                self._record.tag(test_rows=judged.examples.rows.digest)
        self._last_step = last.step
        self._record.metrics(result.metrics, step=last.step)
        found = f"no: {', '.join(sorted(exceptions))}" if exceptions else "yes"
        since = f", from step {resumed.step} on" if resumed else ""
        self._record.tag(predictions=json.dumps(digests), deterministic=found + since)
        if judged:
            task, given = self._data.task, (judged.examples, judged.evaluation.outputs)
            with booked("logging"):
                self._record.table(task.predictions(*given), "predictions.json")
                for file, figure in task.figures(*given).items():
                    self._record.figure(figure, file)
            log.info("score %.4f at step %d", result.score, best.step)
        else:
            self._record.end(result.state)
            log.info("%s at step %d, epoch %g", result.state, last.step, last.epoch)
        return result

    def model(self, model: PreTrainedModel, folder: Path, evaluations: Evaluations) -> None:
        """Keep a model whose best weights are in it; it cannot be used further.

        Raises:
            ModelError: where it predicts differently after reloading.
        """
        assert evaluations.best is not None
        asked = self._data.examples["validation"], evaluations.best.outputs
        with (
            booked("model"),
            save_checked(folder, model, self._data.task, self._experiment, *asked) as interface,
        ):
            self._record.model(folder, interface)

    def close(self, result: Result, spent: Mapping[str, float], bound: float) -> Result:
        """Log the seconds by phase, and their lower bound: those of the matrix products alone."""
        account = Account(spent, bound)
        ledger().take()
        self._record.metrics(account.metrics, self._last_step)
        snapshot = result.snapshot and replace(result.snapshot, spent=dict(account.seconds))
        return replace(result, account=account, snapshot=snapshot)
