"""The result of a training: scores, costs, and the final evaluation of the best weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.common.contract import STATE_AFTER, PruningDecision
from pipeline.common.timing import TRAINING
from pipeline.evaluation.names import BEST_EPOCH, BEST_STEP
from pipeline.tasks.objective import Constraint, Objective, constraints, objectives
from pipeline.training.outcome import Result
from pipeline.training.speed import memory_bytes

if TYPE_CHECKING:
    from pipeline.config.experiment import Experiment
    from pipeline.tasks.base import Examples
    from pipeline.training.best import Evaluation
    from pipeline.training.prepare import Prepared
    from pipeline.training.trainer import FineTuner


@dataclass(frozen=True)
class Judged:
    """The best weights on the split that the run is judged by: the test split if it is read."""

    split: str  # val or test
    examples: Examples
    read: Examples  # the same, as the model reads them
    evaluation: Evaluation
    baseline: Mapping[str, float]  # scores of the baseline, which needs no model, by prefixed name

    @property
    def metrics(self) -> dict[str, float]:
        """What is known only now, by full names."""
        own = self.evaluation.metrics if self.split == "test" else {}
        return {**named("test", own), **named(self.split, self.baseline)}


def of_training(
    experiment: Experiment, tuner: FineTuner, decision: PruningDecision, run_id: str
) -> Result:
    """Return the result of a training that finished, or that its search ended."""
    evaluations = tuner.evaluations
    best = evaluations.best
    assert best is not None  # training ends with an evaluation
    metrics = {
        **best.named,
        BEST_STEP: float(best.step),
        BEST_EPOCH: best.epoch,
        **costs(tuner),
    }

    def score(goal: Objective) -> float:
        return metrics[goal.metric] if goal.is_cost else evaluations.score(goal)

    def value(limit: Constraint) -> float:
        name = limit.metric
        return metrics[name] if limit.is_cost else best.metrics[name.removeprefix("val/")]

    return Result(
        state=STATE_AFTER[decision],
        run_id=run_id,
        scores=tuple(score(goal) for goal in objectives(experiment)),
        excesses={limit.text: limit.excess(value(limit)) for limit in constraints(experiment)},
        metrics=metrics,
        snapshot=tuner.take_snapshot() if decision == "pause" else None,
    )


def judge(tuner: FineTuner, data: Prepared) -> Judged:
    """Restore the best weights and evaluate them, on the test split if it is read."""
    best = tuner.evaluations.best
    assert best is not None
    tuner.evaluations.restore(tuner.model)
    baseline = named(data.task.baseline_name, data.encoded.baseline)
    splits, read = data.examples, tuner.splits
    if "test" not in splits:
        return Judged("val", splits["validation"], read["validation"], best, baseline)
    evaluation = tuner.evaluate_on(read["test"])
    return Judged("test", splits["test"], read["test"], evaluation, baseline)


def costs(tuner: FineTuner) -> dict[str, float]:
    """Return what training and evaluations cost, and the memory taken, by names of metrics."""
    spent = tuner.spent
    seconds = spent.get("evaluation", 0.0)
    rows = sum(len(examples.rows) for examples in tuner.evaluated)
    return {
        "cost/train_seconds": sum(spent.get(phase, 0.0) for phase in TRAINING),
        "cost/evaluate_seconds": seconds,
        "cost/seconds_per_1000_rows": 1000 * seconds / rows,
        "cost/memory_mb": memory_bytes() / 2**20,
        "cost/parameters": float(tuner.parameters),
    }


def named(prefix: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics by their names after a prefix."""
    return {f"{prefix}/{name}": value for name, value in metrics.items()}
