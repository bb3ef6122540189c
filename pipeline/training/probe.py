"""What this machine decides before a run: its precision, and what a step takes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.common.contract import Precision, RunCost
from pipeline.common.machine import measured
from pipeline.common.process import without_gc
from pipeline.common.timing import TRAINING, ledger
from pipeline.training.hooks import TrainingHook
from pipeline.training.lower_bound import machine_rate
from pipeline.training.prepare import cache_of, load_model, prepare, splits_of
from pipeline.training.speedups import apply

if TYPE_CHECKING:
    from pipeline.config.data import DataConfig
    from pipeline.config.experiment import Experiment
    from pipeline.training.best import Evaluation, Evaluations
    from pipeline.training.outcome import Trial
    from pipeline.training.prepare import Prepared
    from pipeline.training.snapshot import Snapshot

log = logging.getLogger(__name__)

_TIMED_ROWS = 32  # of each batch whose steps are timed
_TIMED_BATCHES = 3  # the first one warms up
_JUDGED_ROWS = 256  # of an evaluation that is timed
# A run's overheads besides computing, measured in trials of the demo on two cores.
_AROUND_SECONDS = 0.5  # its config, record, predictions and pictures, and a model that is saved
_STEP_SECONDS = 0.002  # a step's batch, and Trainer's loop
_EVALUATION_SECONDS = 0.02  # its metrics, and what is logged
_RECORD_BYTES = 150_000  # parameters, curves, config, pictures
_ROW_BYTES = 200  # of a row in the table of predictions


def settled_precision(experiments: Sequence[Experiment]) -> Precision:
    """Return the precision that ``auto`` stands for in all of these, on this machine.

    Raises:
        ModelError: for a model that cannot be found.
    """
    from pipeline.models import find_checkpoint
    from pipeline.training.speed import precision_here

    return precision_here(find_checkpoint(e.model).config for e in experiments)


def with_precision(experiment: Experiment, auto: Precision) -> Experiment:
    """Return an experiment whose precision is settled.

    Args:
        experiment: any.
        auto: what ``training.precision=auto`` stands for; 4-bit weights are stored for bfloat16.
    """
    if experiment.training.precision != "auto":
        return experiment
    precision = "bfloat16" if experiment.adapter.name == "qlora" else auto
    return replace(experiment, training=replace(experiment.training, precision=precision))


@dataclass(frozen=True)
class Timing:
    """What parts of a run take on this machine, in seconds."""

    load: float  # the model's weights
    row: float  # forward and backward of a training row
    step: float  # of the optimizer, and Trainer's loop
    judged: float  # forward of a row that is evaluated
    parameters: int
    examples: float = 1.0  # made of a row


def _time_steps(experiment: Experiment, data: Prepared) -> Timing:
    """Time a few training steps and an evaluation, once per machine, threads and config.

    The time of a batch of another size is that of a row times its rows. Frozen layers are computed,
    as if nothing were cached.

    Args:
        experiment: with threads of its own, and a precision that is settled.
        data: its own.
    """
    from pipeline.training.speed import where

    what = {
        **_of_a_step(experiment),
        "data": data.encoded.splits.digest,
        **where(experiment.training),
    }
    with without_gc():
        found = measured(cache_of(experiment), what, lambda: asdict(_timing(experiment, data)))
    return Timing(**found)


def run_cost(experiment: Experiment) -> RunCost:
    """Forecast what a run costs here: its steps and evaluations, each as long as a timed one.

    Args:
        experiment: whose precision is settled.

    Raises:
        TunewrightError: for data or a model that cannot be used.
    """
    import torch

    training = experiment.training
    if training.threads is None:
        training = replace(training, threads=torch.get_num_threads())
    experiment = replace(experiment, training=training)
    machine_rate(experiment)  # for the compute lower bound, while no worker is busy
    data = prepare(experiment, keep=True)
    rows = {name: len(split.rows) for name, split in data.examples.items()}
    made = len(data.examples["train"].dataset) / rows["train"]
    return _cost(experiment, rows, replace(_time_steps(experiment, data), examples=made))


def _cost(experiment: Experiment, rows: Mapping[str, int], timing: Timing) -> RunCost:
    """Add up what a run costs on splits of so many rows."""
    from pipeline.training.points import Length, evaluation_points

    training = experiment.training
    examples = round(rows["train"] * timing.examples)
    length = Length.of(training, examples)
    evaluations = len(evaluation_points(training, length))
    whole = rows["validation"]
    early = min(experiment.evaluation.early_rows or whole, whole)
    judged = whole + (evaluations - 1) * early + rows.get("test", 0)
    seconds = (
        timing.load
        + length.epochs * examples * timing.row
        + length.steps * timing.step
        + judged * timing.judged
        + evaluations * _EVALUATION_SECONDS
        + _AROUND_SECONDS
    )
    return RunCost(seconds, _RECORD_BYTES + _ROW_BYTES * whole, 4 * timing.parameters)


def costs_by_trial(
    experiments: Sequence[Experiment],
) -> Callable[[Mapping[str, Any]], list[RunCost]] | None:
    """Return what forecasts the runs' costs by the `Timing` of any of them.

    None where their steps or rows are of several kinds, so that one cannot tell of the others.
    """
    kinds = [(_of_a_step(e), _unsampled(e.data), e.evaluation.batch_size) for e in experiments]
    if any(kind != kinds[0] for kind in kinds):
        return None
    sizes = [
        {name: len(split) for name, split in splits_of(experiment).by_name.items()}
        for experiment in experiments
    ]

    def costs(timing: Mapping[str, Any]) -> list[RunCost]:
        known = Timing(**timing)
        return [_cost(e, rows, known) for e, rows in zip(experiments, sizes, strict=True)]

    return costs


def _unsampled(data: DataConfig) -> dict[str, Any]:
    """Return the settings of data but for how much of them is used."""
    parts = ("train_share", "fold", "max_train_samples", "max_validation_samples")
    return {key: value for key, value in asdict(data).items() if key not in parts}


def _of_a_step(experiment: Experiment) -> dict[str, Any]:
    """Return all that what a step takes depends on, besides rows and machine."""
    training = experiment.training
    return {
        "what": "steps",
        "model": asdict(experiment.model),
        "adapter": asdict(experiment.adapter),
        "task": asdict(experiment.task),
        "optimizer": experiment.optimizer.name,
        "length": training.max_length,
        "how": [
            training.precision,
            training.micro_batch_tokens,
            training.active_vocabulary,
            training.unpadding,
        ],
    }


class StepTimes(TrainingHook):
    """Notes what the steps up to a trial's first evaluation, and that, took."""

    def __init__(self, trial: Trial, data: Prepared) -> None:
        self._trial, self._data = trial, data
        self._start = ledger().seconds()  # by phase; the model is not loaded yet
        self._after_first: Mapping[str, float] | None = None  # seconds by phase
        self._is_over = False

    def on_start(self, snapshot: Snapshot | None) -> None:
        """Leave out a training that resumes: its first part has told."""
        self._is_over = snapshot is not None

    def on_step(self) -> None:
        """Begin after the first step, which warms up."""
        if self._after_first is None:
            self._after_first = ledger().seconds()

    def on_evaluation(self, evaluation: Evaluation, so_far: Evaluations, *, is_last: bool) -> bool:
        """Note it at the first evaluation."""
        if not self._is_over and evaluation.step:  # before any step there is nothing to tell
            self._is_over = True
            self._trial.timed(asdict(self._timing(evaluation)))
        return super().on_evaluation(evaluation, so_far, is_last=is_last)

    def _timing(self, evaluation: Evaluation) -> Timing:
        now, before, steps = ledger().seconds(), self._after_first, evaluation.step - 1
        if before is None or steps < 1:  # the first one is all there is
            before, steps = self._start, 1
        spent = {phase: now[phase] - before[phase] for phase in TRAINING}
        train = self._data.examples["train"]
        rows = evaluation.epoch * len(train.dataset) * steps / evaluation.step
        judged = len(evaluation.outputs["weight"])
        return Timing(
            now["model"] - self._start["model"],
            spent["forward_backward"] / rows,
            (spent["optimizer"] + spent["batches"]) / steps,
            (now["evaluation"] - self._start["evaluation"]) / judged,
            self._data.task.count_parameters(),
            len(train.dataset) / len(train.rows),
        )


def run_costs(experiments: Sequence[Experiment]) -> list[RunCost]:
    """Forecast what runs cost, one after the other."""
    return [run_cost(experiment) for experiment in experiments]


def _timing(experiment: Experiment, data: Prepared) -> Timing:
    import numpy as np
    import torch

    from pipeline.training.speed import evaluation_seconds, step_seconds

    train, judged = data.examples["train"].dataset, data.examples["validation"]
    began = time.perf_counter()
    with torch.random.fork_rng():
        model = load_model(experiment, data.task)
    load = time.perf_counter() - began
    count = sum(p.numel() for p in model.parameters())
    with apply(experiment, model, data, reuse=False) as fast:
        rows = len(train)
        size = min(_TIMED_ROWS, rows)
        order = np.random.default_rng(0).permutation(rows)
        drawn = np.take(order, np.arange(_TIMED_BATCHES * size), mode="wrap")
        batches = [train.__getitems__(some.tolist()) for some in np.split(drawn, _TIMED_BATCHES)]
        computing, stepping = step_seconds(experiment, model, fast.task, batches, fast.call_tokens)
        if len(judged.rows) > _JUDGED_ROWS:
            step = len(judged.rows) / _JUDGED_ROWS
            judged = judged.of_rows([int(i * step) for i in range(_JUDGED_ROWS)])
        evaluating = evaluation_seconds(experiment, model, fast.task, judged)
    judging = evaluating / len(judged.rows)
    return Timing(load, computing / size, stepping + _STEP_SECONDS, judging, count)
