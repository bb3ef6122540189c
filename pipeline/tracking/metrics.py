"""A run's metrics as they are read back: histories, final values, those of older records.

A metric of the evaluations, such as ``val/f1_macro``, has a point for each of them. MLflow's
tables, filters and charts show its latest point, so where the best evaluation was not the last one,
a closing point follows at the last step: the value of the best one, whose weights are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

from pipeline.evaluation.names import BEST_EPOCH, BEST_STEP, EVALUATED, is_detail
from pipeline.tracking.record import RUN_SECONDS
from pipeline.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run

History = Mapping[int, float]  # value by step
V = TypeVar("V")

# As older versions logged: val/best/f1_macro, val/last/f1_macro, val/best/step.
_OLD = re.compile(r"(val|early)/(best|last)/(.+)")
# Conditions of MLflow's search: on runs of older versions, and of this one.
OLD_BEST, NEW_BEST = "metrics.`val/best/step` >= 0", f"metrics.`{BEST_STEP}` >= 0"


def history(store: Store, run_id: str, metric: str) -> dict[int, float]:
    """Return a metric's values by the step that they were logged at, without closing points."""
    found = own_points(store.client.get_metric_history(run_id, metric))
    return {point.step: point.value for point in found}


def own_points(points: Iterable[Metric]) -> list[Metric]:
    """Return the points of a metric's history by step, one of each: closing points left out."""
    ordered = sorted(points, key=lambda point: (point.step, point.timestamp))
    if ordered and ordered[0].key.startswith(EVALUATED):
        ordered.reverse()  # of a step's points the first is the evaluation's own
    own = {point.step: point for point in ordered}
    return [own[step] for step in sorted(own)]


def final_values(histories: Mapping[str, History]) -> dict[str, float]:
    """Return the value of each metric that MLflow shows: of the evaluations' that of the best."""
    steps = histories.get(BEST_STEP, {})
    best = steps[max(steps)] if steps else None

    def final(metric: str, points: History) -> float:
        looked = (step for step in points if step == best and metric.startswith(EVALUATED))
        return points[next(looked, max(points))]

    return {metric: final(metric, points) for metric, points in histories.items() if points}


def comparable(then: Mapping[str, V], now: Mapping[str, V]) -> list[str]:
    """Return the metrics that two runs are compared by: details only where both have them.

    A run has those that judge it, and one of an older version all of them.
    """
    both = then.keys() & now.keys()
    return [m for m in {**then, **now} if m in both or not is_detail(m.partition("/")[2])]


def metrics_of(run: Run) -> dict[str, float]:
    """Return the value of each metric of a run of any version, as it would be logged today."""
    latest: Mapping[str, float] = run.data.metrics
    best = {
        metric.replace("/best/", "/", 1): value
        for metric, value in latest.items()
        if (old := _OLD.fullmatch(metric)) and old[2] == "best" and _today(metric) is None
    }
    return {**migrated_metrics(latest), **best}


def migrated_metrics(values: Mapping[str, V]) -> dict[str, V]:
    """Return what any version logged by today's metrics; what is no metric any more is left out."""
    named = ((_today(metric), value) for metric, value in sorted(values.items()))
    return {name: value for name, value in named if name is not None}


def _today(metric: str) -> str | None:
    old = _OLD.fullmatch(metric)
    if old is None:
        is_other = metric.startswith(("data/", "time/")) and metric != RUN_SECONDS
        return None if is_other or metric == "cost/data_seconds" else metric
    name = f"best/{old[3]}"
    return name if old[2] == "best" and name in (BEST_STEP, BEST_EPOCH) else None
