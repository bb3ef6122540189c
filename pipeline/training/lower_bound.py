"""The least time that a run's matrix products take on this machine."""

from __future__ import annotations

import logging
import math
from functools import partial
from typing import TYPE_CHECKING

from pipeline.common.machine import best_rate, measured
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
        trial: the run's; its study keeps the rate that its first trial found on a machine, so that
            equal trials have equal bounds.
    """
    from pipeline.training.speed import matmul_rate, where

    training, train = experiment.training, data.examples["train"]
    rated = {"what": "products", "precision": training.precision, **where(training)}
    own = partial(best_rate, cache_of(experiment), rated, partial(matmul_rate, training))
    try:
        rate = own() if trial.folder is None else measured(trial.folder, rated, own)
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
