"""The least time that a run's matrix products take on this machine."""

from __future__ import annotations

import logging
import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.common.machine import best_rate, measured
from pipeline.common.process import without_gc
from pipeline.common.session import session
from pipeline.common.timing import booked
from pipeline.training.prepare import cache_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from pipeline.config.experiment import Experiment
    from pipeline.training.outcome import Trial
    from pipeline.training.prepare import Prepared
    from pipeline.training.results import Judged
    from pipeline.training.speed import Operations
    from pipeline.training.trainer import FineTuner

log = logging.getLogger(__name__)


@booked("logging")
def lower_bound(
    experiment: Experiment,
    model: PreTrainedModel,
    data: Prepared,
    tuner: FineTuner,
    judged: Judged | None,
    trial: Trial,
) -> float:
    """Return seconds: all operations divided by this machine's best rate; NaN if unknown.

    Args:
        experiment: the run's.
        model: its adapter is not merged yet.
        data: the run's.
        tuner: has trained it.
        judged: the final evaluation, if there was one.
        trial: the run's.
    """
    train = data.examples["train"]
    try:
        rate = machine_rate(experiment, trial.folder)
        counted = _operations(experiment, model, data)
    except Exception:  # the run itself succeeded
        log.warning("the compute lower bound is unknown", exc_info=True)
        return math.nan
    last, evaluated = tuner.evaluations.last, tuner.evaluated
    assert last is not None
    if judged and judged.split == "test":
        evaluated = [*evaluated, judged.examples]
    once = sum(counted.of_evaluation(split) for split in evaluated)
    return float((last.epoch * counted.of_training(train) + once) / rate)


@booked("logging")
def settle_rate(experiment: Experiment, study: Path) -> None:
    """Measure the machine for a study before its first trials.

    Workers begin at the same time: one measures, and the others wait for it.
    """
    with booked("boot"), without_gc():
        import pipeline.training.speed  # noqa: F401  # torch and the like
    try:
        machine_rate(experiment, study)
    except Exception:  # the trial needs none
        log.warning("the machine could not be measured", exc_info=True)


def machine_rate(experiment: Experiment, study: Path | None = None) -> float:
    """Return the operations a second of a large product: the most that was ever measured here.

    A study measures before its first trials, see `settle_rate`, and keeps the best that is known
    then, so that equal trials have equal bounds.

    Args:
        experiment: with threads of its own, and a precision that is settled.
        study: the folder of the study that asks, if one does.
    """
    from pipeline.training.speed import matmul_rate, where

    training, cache = experiment.training, cache_of(experiment)
    rated = {"what": "products", "precision": training.precision, **where(training)}
    measure = partial(matmul_rate, training)
    if study is None:
        return best_rate(cache, rated, measure)
    best = partial(best_rate, cache, rated, measure)
    return float(measured(study, rated, best))


def _operations(experiment: Experiment, model: PreTrainedModel, data: Prepared) -> Operations:
    """Count a model's operations, once for all trials that share it."""
    from pipeline.training.speed import Operations

    of = (
        experiment.model,
        experiment.adapter,
        experiment.task,
        experiment.training.max_length,
        data.encoded.splits.digest,
    )
    counted = session().kept(Operations, dict[object, Operations])
    if of not in counted:
        counted.clear()  # the last ones are kept
        counted[of] = Operations(model, data.task, data.examples["train"])
    return counted[of]
