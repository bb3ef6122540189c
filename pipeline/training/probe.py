"""What this machine decides before a run: its precision, and what a step takes."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from pipeline.common.contract import Precision, RunCost
from pipeline.common.machine import measured
from pipeline.common.process import without_gc
from pipeline.training.lower_bound import machine_rate
from pipeline.training.prepare import cache_of, load_model, prepare
from pipeline.training.speedups import apply

if TYPE_CHECKING:
    from pipeline.config.experiment import Experiment
    from pipeline.training.prepare import Prepared

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
    step: float  # of the optimizer
    judged: float  # forward of a row that is evaluated
    parameters: int


def _time_steps(experiment: Experiment, data: Prepared) -> Timing:
    """Time a few training steps and an evaluation, once per machine, threads and config.

    The time of a batch of another size is that of a row times its rows. Frozen layers are computed,
    as if nothing were cached.

    Args:
        experiment: with threads of its own, and a precision that is settled.
        data: its own.
    """
    from pipeline.training.speed import where

    training = experiment.training
    what = {
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
        "data": data.encoded.splits.digest,
        **where(training),
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

    from pipeline.training.points import Length, evaluation_points

    training = experiment.training
    if training.threads is None:
        training = replace(training, threads=torch.get_num_threads())
    experiment = replace(experiment, training=training)
    machine_rate(experiment)  # for the compute lower bound, while no worker is busy
    data = prepare(experiment, keep=True)
    timing, rows = _time_steps(experiment, data), len(data.examples["train"].dataset)
    length = Length.of(training, rows)
    evaluations = len(evaluation_points(training, length))
    whole = len(data.examples["validation"].rows)
    early = min(experiment.evaluation.early_rows or whole, whole)
    judged = whole + (evaluations - 1) * early
    judged += len(data.examples["test"].rows) if "test" in data.examples else 0
    seconds = (
        timing.load
        + length.epochs * rows * timing.row
        + length.steps * (timing.step + _STEP_SECONDS)
        + judged * timing.judged
        + evaluations * _EVALUATION_SECONDS
        + _AROUND_SECONDS
    )
    return RunCost(seconds, _RECORD_BYTES + _ROW_BYTES * whole, 4 * timing.parameters)


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
    return Timing(load, computing / size, stepping, evaluating / len(judged.rows), count)
