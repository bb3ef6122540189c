"""One run, from config to score: the five steps of fine-tuning, in order.

Nothing here knows about searches: a trial is a run that may ask whether it is the best so far.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.analysis.fairness import FILE as BIAS_FILE
from pipeline.analysis.fairness import bias_page, fairness_of
from pipeline.common.contract import PruningDecision, State
from pipeline.common.machine import best_rate
from pipeline.common.process import without_gc
from pipeline.common.timing import LEDGER, TRAINING, Account
from pipeline.config.experiment import Experiment
from pipeline.tasks.objective import constraints, objectives, read_objective
from pipeline.tracking.store import open_store
from pipeline.training.outcome import Result, Trial
from pipeline.training.prepare import (
    Prepared,
    cache_of,
    early_examples,
    inputs,
    load_model,
    pack_layers,
    prepare,
)
from pipeline.training.run_folders import folder_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from pipeline.tasks.base import Examples
    from pipeline.tracking import Record
    from pipeline.training.best import Evaluation, Evaluations
    from pipeline.training.checkpoints import Checkpoints
    from pipeline.training.snapshot import Snapshot
    from pipeline.training.speedups.frozen_layers import PrefixCache
    from pipeline.training.trainer import FineTuner

log = logging.getLogger(__name__)

_STATES: Mapping[PruningDecision, State] = {
    "continue": "complete",
    "prune": "pruned",
    "pause": "paused",
}
# Models whose outputs are those of a head, so that no new token is read.
_HEADS = ("AutoModelForSequenceClassification", "AutoModelForQuestionAnswering")
_COUNTED: list[Any] = []  # the last operations, and what of: the trials of a search share them


def run(
    experiment: Experiment,
    record: Record,
    output_dir: Path,
    trial: Trial | None = None,
    checkpoints: Checkpoints | None = None,
) -> Result:
    """Fine-tune a model once and say how good it became.

    The score is that of the best evaluation; the best evaluation's weights are the ones that are
    tested and kept. A run on its own keeps its model; a trial only when it is the best so far.

    Args:
        experiment: everything that can change the result.
        record: the open MLflow run that gets parameters, metrics and artifacts.
        output_dir: scratch folder of this run.
        trial: what it may ask of a search, if it is part of one.
        checkpoints: the run's states on disk, with its lock held; it goes on from the latest.
            None: they are opened here, and end with this call.

    Raises:
        TunewrightError: for data, models or settings that cannot work, for NaN losses, and for a
            model that answers otherwise when it is read again.
    """
    if checkpoints is None:
        with open_checkpoints(experiment, record.run_id, of_trial=trial is not None) as opened:
            return run(experiment, record, output_dir, trial, opened)
    with ExitStack() as shortcuts:
        return _run(experiment, record, output_dir, trial, checkpoints, shortcuts)


def _run(
    experiment: Experiment,
    record: Record,
    output_dir: Path,
    trial: Trial | None,
    checkpoints: Checkpoints,
    shortcuts: ExitStack,
) -> Result:
    """Do what `run` says; ``shortcuts`` ends those that the model takes while it is trained."""
    # 1. Choose the model: its config and tokenizer now, its weights when they are needed.
    with LEDGER.booked("boot"), without_gc():
        import transformers

        from pipeline.models import find_checkpoint
        from pipeline.training.best import Evaluations
        from pipeline.training.checkpoints import check_fits
        from pipeline.training.determinism import repeatable
        from pipeline.training.speedups.active_vocabulary import narrow
        from pipeline.training.trainer import FineTuner

    with LEDGER.booked("model"):
        find_checkpoint(experiment.model)

    # 2. Prepare the data: rows, splits, token ids. The trials of a sweep share them.
    started = time.perf_counter()
    with LEDGER.booked("data"):
        data = prepare(experiment, keep=True)
    task = data.task
    _log_data(record, data, time.perf_counter() - started)

    fairness = fairness_of(experiment, data)
    judged_splits = [e for name, e in data.examples.items() if name != "train"]
    swapped = fairness.prepare(judged_splits) if fairness else []

    # 3. Choose the hyperparameters: they are the config's; a search has put its own there.
    first, *_ = goals = objectives(experiment)
    named = trial.reported if trial else None
    reported = read_objective(experiment, named) if named else first
    paused = trial.snapshot if trial else None
    resumed = None if paused else checkpoints.latest()
    snapshot = paused or resumed

    # 4. Fine-tune.
    with LEDGER.booked("model"):
        transformers.set_seed(experiment.seed)  # the new head's weights are drawn now
        model = load_model(experiment, task)
        parameters = sum(p.numel() for p in model.parameters())
        vocabulary = None
        # A state from before there were narrow tables goes on with the whole one.
        if experiment.training.active_vocabulary and (snapshot is None or snapshot.is_narrow):
            ids = data.encoded.token_ids_with(swapped)
            vocabulary = narrow(model, ids, experiment.optimizer)
    if snapshot is None:
        record.inputs(inputs(experiment))
    evaluations = (
        snapshot.evaluations
        if snapshot
        else Evaluations(first, experiment.training.early_stopping_patience)
    )
    decision: PruningDecision = "continue"

    def goes_on(evaluation: Evaluation) -> bool:
        nonlocal decision
        if trial is not None:
            with LEDGER.booked("search"):
                decision = trial.report(evaluations.score(reported), evaluation.epoch)
        return decision == "continue"

    with LEDGER.booked("data"), repeatable(experiment.training):
        prefix = _prefix(experiment, model, data, in_sweep=trial is not None)
    if prefix:
        shortcuts.callback(prefix.restore)
    splits = prefix.examples if prefix else data.examples
    early = early_examples(experiment, splits["validation"])
    with LEDGER.booked("model"):
        pack_layers(experiment, model, shortcuts)
    tuner = FineTuner(
        experiment,
        output_dir,
        model,
        prefix.task if prefix else task,
        train=splits["train"],
        validation=splits["validation"],
        early=early,
        evaluations=evaluations,
        log_metrics=partial(_log_progress, record),
        goes_on=goes_on,
        check_time=trial.check_time if trial else lambda: None,
        checkpoints=checkpoints,
        flush=record.flush,
        soft_stop=trial is None,
        vocabulary=vocabulary,
        more_metrics=fairness.metrics if fairness else None,
    )
    if resumed:
        check_fits(resumed, model)
        log.info("goes on from step %d", resumed.step)
        if trial is not None and evaluations.last is not None:
            trial.resumed(evaluations.last.epoch)
    with repeatable(experiment.training) as exceptions:
        tuner.fine_tune(snapshot)
    best, last = evaluations.best, evaluations.last
    assert best is not None  # training ends with an evaluation
    assert last is not None
    metrics = {
        **_named(f"{best.split}/best", best.metrics),
        **_named(f"{last.split}/last", last.metrics),
        f"{best.split}/best/step": float(best.step),
        f"{best.split}/best/epoch": best.epoch,
        "cost/train_seconds": sum(tuner.spent.get(head, 0.0) for head in TRAINING),
        **_costs(tuner, data, evaluations, early),
        "cost/parameters": float(parameters),
    }
    result = Result(
        state=_STATES[decision],
        run_id=record.run_id,
        scores=tuple(metrics[g.metric] if g.is_cost else evaluations.score(g) for g in goals),
        excesses={
            c.text: c.excess(
                metrics[c.metric] if c.is_cost else best.metrics[c.metric.removeprefix("val/")]
            )
            for c in constraints(experiment)
        },
        metrics=metrics,
        snapshot=tuner.take_snapshot() if decision == "pause" else None,
    )
    digests = {best.split: best.digest}
    evaluated = [data.encoded.validation] * evaluations.full
    if early is not None:
        evaluated += [early] * evaluations.early
    if result.state != "complete":
        record.metrics(metrics, step=last.step)
        record.tag(predictions=json.dumps(digests), deterministic=_said(exceptions, resumed))
        record.end(result.state)
        log.info("%s at step %d, epoch %g", result.state, last.step, last.epoch)
        shortcuts.close()
        floor = _floor(experiment, model, data, last.epoch, evaluated)
        account = _account(record, tuner, floor)
        snapshot = result.snapshot and replace(result.snapshot, spent=dict(account.seconds))
        return replace(result, account=account, snapshot=snapshot)

    # 5. Evaluate: the best weights on the validation split, and on the test split if asked for.
    evaluations.restore(model)
    encoded = data.encoded
    judged: tuple[str, Examples, Evaluation] = ("val", encoded.validation, best)
    if encoded.test is not None:
        with repeatable(experiment.training) as in_test:
            tested = tuner.evaluate_on(splits["test"])
        exceptions |= in_test
        metrics |= _named("test", tested.metrics)
        digests["test"] = tested.digest
        record.tag(test_rows=encoded.test.rows.digest)
        evaluated.append(encoded.test)
        judged = ("test", encoded.test, tested)
    split, examples, evaluation = judged
    metrics |= _named(f"{split}/{task.baseline_name}", encoded.baseline)
    record.metrics(metrics, step=last.step)
    record.tag(predictions=json.dumps(digests), deterministic=_said(exceptions, resumed))
    if fairness:
        with LEDGER.booked("evaluation"):
            seen = splits["validation" if split == "val" else "test"]
            bias = fairness.report(split, seen, evaluation.outputs, tuner.infer)
        record.texts({BIAS_FILE: bias.as_json(), "bias.html": bias_page(bias, record.run_id)})
    with LEDGER.booked("logging"):
        record.table(task.predictions(examples, evaluation.outputs), "predictions.json")
        for file, figure in task.figures(examples, evaluation.outputs).items():
            record.figure(figure, file)
    shortcuts.close()
    if vocabulary is not None:
        vocabulary.widen()
    floor = _floor(experiment, model, data, last.epoch, evaluated)  # before an adapter is merged
    if trial is None or trial.is_best(result.score):
        from pipeline.serving.saved import save_checked

        folder, asked = output_dir / "model", (encoded.validation, best.outputs)
        with (
            LEDGER.booked("model"),
            save_checked(folder, model, task, experiment, *asked) as interface,
        ):
            record.model(folder, interface)
    log.info("score %.4f at step %d", result.score, best.step)
    return replace(result, account=_account(record, tuner, floor))


def _prefix(
    experiment: Experiment, model: PreTrainedModel, data: Prepared, *, in_sweep: bool
) -> PrefixCache | None:
    """Return what the frozen layers give for the data, where there are such and it pays."""
    from pipeline.training.speedups.frozen_layers import pays, prefix_cache
    from pipeline.training.trainer import evaluation_points

    training = experiment.training
    frozen = experiment.adapter.name in ("head", "freeze")
    # What swapped texts would give is in no cache.
    can = data.task.auto_class in _HEADS and experiment.evaluation.counterfactual is None
    if not (training.frozen_layer_cache and frozen and can):
        return None
    steps = math.ceil(len(data.encoded.train.dataset) / training.batch_size)
    points = evaluation_points(training, steps, math.ceil(training.epochs * steps))
    if not pays(training.epochs, len(points), in_sweep=in_sweep):
        return None
    folder = cache_of(experiment) / "prefix"
    how = {"threads": training.threads, "deterministic": training.deterministic}
    return prefix_cache(model, data.task, data.examples, folder, how, training.precision)


def _costs(
    tuner: FineTuner,
    data: Prepared,
    evaluations: Evaluations,
    early: Examples | None,
) -> dict[str, float]:
    """Return what evaluations cost, and the memory that was taken, by the names of metrics."""
    from pipeline.training.speed import memory_bytes

    seconds = tuner.spent.get("evaluation", 0.0)
    whole, some = len(data.encoded.validation.rows), len(early.rows) if early else 0
    rows = evaluations.full * whole + evaluations.early * some
    return {
        "cost/evaluate_seconds": seconds,
        "cost/seconds_per_1000_rows": 1000 * seconds / rows,
        "cost/memory_mb": memory_bytes() / 2**20,
    }


def _floor(
    experiment: Experiment,
    model: PreTrainedModel,
    data: Prepared,
    epochs: float,
    evaluated: Sequence[Examples],
) -> float:
    """Return the seconds that the machine needs at least; NaN where they cannot be found out.

    Args:
        experiment: says how it was trained.
        model: whose operations are counted, with its adapter beside it.
        data: what it was trained on.
        epochs: passes over the training split.
        evaluated: the split of each evaluation.
    """
    from pipeline.training.speed import Operations, matmul_rate, where

    training, train = experiment.training, data.encoded.train
    rated = {"what": "products", "precision": training.precision, **where(training)}
    of = (
        experiment.model,
        experiment.adapter,
        experiment.task,
        training.max_length,
        data.encoded.splits.digest,
    )
    try:
        with LEDGER.booked("logging"):
            rate = best_rate(cache_of(experiment), rated, partial(matmul_rate, training))
            if _COUNTED[:1] != [of]:
                _COUNTED[:] = [of, Operations(model, data.task, train)]
    except Exception:  # the run is good all the same
        log.warning("its floor is not known", exc_info=True)
        return math.nan
    counted = _COUNTED[1]
    once = (counted.of_evaluation(split) for split in evaluated)
    return float((epochs * counted.of_training(train) + sum(once)) / rate)


def _account(record: Record, tuner: FineTuner, floor: float) -> Account:
    """Close a run's account: where its time went, and what the machine would need at least."""
    account = Account(tuner.spent, floor)
    LEDGER.take()
    record.metrics(account.metrics)
    return account


def _cache(experiment: Experiment) -> Path:
    return open_store(experiment.tracking).dir / "cache"


def open_checkpoints(experiment: Experiment, run_id: str, *, of_trial: bool = False) -> Checkpoints:
    """Return a run's states on disk, as a context to be entered: they are empty for a new run."""
    from pipeline.training.checkpoints import Checkpoints

    folder = folder_of(open_store(experiment.tracking).dir, run_id)
    return Checkpoints(folder, experiment.training.keep_checkpoints, of_trial=of_trial)


def _said(exceptions: set[str], resumed: Snapshot | None) -> str:
    """Say whether the device repeats itself, as far as this process saw."""
    since = f", from step {resumed.step} on" if resumed else ""
    return (f"no: {', '.join(sorted(exceptions))}" if exceptions else "yes") + since


def _log_data(record: Record, data: Prepared, seconds: float) -> None:
    for name, examples in data.examples.items():
        record.metrics(
            {
                f"data/{name}_rows": len(examples.rows),
                f"data/{name}_examples": len(examples.dataset),
                f"data/{name}_long": examples.truncated,
                f"data/{name}_dropped": examples.dropped,
            }
        )
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
    record.metrics({"cost/data_seconds": seconds})
    record.tag(**({"labels": ", ".join(data.task.labels)} if data.task.labels else {}))


def _log_progress(record: Record, metrics: dict[str, float], step: int) -> None:
    record.metrics(metrics, step)
    shown = (f"{k} {v:.4g}" for k, v in metrics.items() if k.count("/") == 1)
    log.info("step %d: %s", step, ", ".join(shown))


def _named(prefix: str, metrics: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in metrics.items()}
