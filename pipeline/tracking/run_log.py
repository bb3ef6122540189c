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
from pipeline.evaluation.names import SPLIT_NAMES
from pipeline.evaluation.score_table import FILE, score_table
from pipeline.serving.saved import save_checked
from pipeline.tasks.objective import logged_metrics
from pipeline.tracking.record import ACCOUNT, COST_FILE, Record
from pipeline.training.hooks import TrainingHook
from pipeline.training.outcome import RUN_LOGGER, Result
from pipeline.training.prepare import Prepared, inputs

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from pipeline.tasks.base import Examples
    from pipeline.training.best import Evaluation, Evaluations
    from pipeline.training.results import Judged
    from pipeline.training.snapshot import Snapshot

log = logging.getLogger(RUN_LOGGER)


class RunLog(TrainingHook):
    """Writes down in a run's open record what the run reads, how it goes and what it found."""

    def __init__(self, record: Record, experiment: Experiment, data: Prepared) -> None:
        self._record, self._experiment, self._data = record, experiment, data

    def on_start(self, snapshot: Snapshot | None) -> None:
        """Log, once, what is read and how much of it."""
        if snapshot is not None:
            log.info("resumed at step %d", snapshot.step)
            return
        record, data = self._record, self._data
        read = inputs(self._experiment)
        for name, examples in data.examples.items():
            read["data"]["splits"][name] |= {
                "examples": len(examples.dataset),
                "long": examples.truncated,
                "dropped": examples.dropped,
            }
            if examples.truncated:
                log.info(
                    "%s: %d of %d rows are too long, task.long_rows=%s",
                    name,
                    examples.truncated,
                    len(examples.rows),
                    data.task.config.long_rows,
                )
        record.inputs(read)
        for warning in data.warnings:
            log.warning("data: %s", warning)
        if data.task.labels:
            record.tag(labels=", ".join(data.task.labels))

    def on_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Log and show metrics."""
        logged = logged_metrics(self._experiment, metrics)
        self._record.metrics(logged, step)
        log.info("step %d: %s", step, ", ".join(f"{k} {v:.4g}" for k, v in logged.items()))

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
        logged = logged_metrics(self._experiment, result.metrics)
        self._record.metrics({k: v for k, v in logged.items() if k not in best.named}, last.step)
        if best.step != last.step:
            closing = {name: value for name, value in logged.items() if name in best.named}
            self._record.closing(closing, last.step)
        if result.state != "paused":
            self._score_tables(best, judged)
        found = f"no: {', '.join(sorted(exceptions))}" if exceptions else "yes"
        since = f", from step {resumed.step} on" if resumed else ""
        self._record.tag(predictions=json.dumps(digests), deterministic=found + since)
        if judged:
            task, given = self._data.task, (judged.examples, judged.evaluation.outputs)
            with booked("logging"):
                self._record.table(task.predictions(*given), "predictions.json")
                rows = f"{SPLIT_NAMES[judged.split]} split, {len(judged.examples.rows)} rows"
                for file, figure in task.figures(*given).items():
                    figure.suptitle(rows)
                    self._record.figure(figure, file)
            log.info("score %.4f at step %d", result.score, best.step)
        else:
            self._record.end(result.state)
            log.info("%s at step %d, epoch %g", result.state, last.step, last.epoch)
        return result

    def _score_tables(self, best: Evaluation, judged: Judged | None) -> None:
        """Store all scores of each split, by label as well."""
        data, task = self._data, self._data.task
        looked: dict[str, tuple[Examples, Evaluation]] = {}
        if not best.is_early:
            looked["val"] = data.examples["validation"], best
        if judged:
            looked[judged.split] = judged.examples, judged.evaluation
        with booked("logging"):
            for split, (examples, evaluation) in looked.items():
                is_judged = split == "test" or "test" not in data.examples
                baseline = data.encoded.baseline if is_judged else {}
                counts = task.counts(examples, evaluation.outputs)
                table = score_table(evaluation.metrics, baseline, task.baseline_name, counts)
                self._record.table(table, FILE.format(split=split))

    def model(self, model: PreTrainedModel, folder: Path, evaluations: Evaluations) -> None:
        """Keep a model whose best weights are in it; it cannot be used further.

        Raises:
            ModelError: where it predicts differently after reloading.
        """
        best = evaluations.best
        assert best is not None
        asked = self._data.examples["validation"], best.outputs
        with (
            booked("model"),
            save_checked(folder, model, self._data.task, self._experiment, *asked) as interface,
        ):
            self._record.model(folder, interface, best.step)

    def close(self, result: Result, spent: Mapping[str, float], bound: float) -> Result:
        """Log the seconds by phase, and their lower bound: those of the matrix products alone."""
        account = Account(spent, bound)
        ledger().take()
        self._record.text(json.dumps({ACCOUNT: account.as_tree()}, indent=1), COST_FILE)
        snapshot = result.snapshot and replace(result.snapshot, spent=dict(account.seconds))
        return replace(result, account=account, snapshot=snapshot)
