"""What judges a run: a metric, how its evaluations make one score, and constraints.

``val/f1_macro`` is the best evaluation's value, ``val/f1_macro@last`` the last one's and
``val/f1_macro@mean3`` the mean of the last three. ``cost/train_seconds`` is the run's cost.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from pipeline.common.errors import ConfigError, did_you_mean, listing
from pipeline.evaluation.names import (
    SLICE_METRICS,
    SWAP_METRICS,
    is_cost,
    is_detail,
    label_in,
    logged_name,
    metric_name,
)
from pipeline.tasks import get_task

if TYPE_CHECKING:
    from pipeline.common.contract import Direction
    from pipeline.config.experiment import Experiment

COSTS: Mapping[str, Direction] = {
    "cost/train_seconds": "minimize",
    "cost/evaluate_seconds": "minimize",
    "cost/seconds_per_1000_rows": "minimize",  # evaluated
    "cost/parameters": "minimize",
    "cost/memory_mb": "minimize",
}
SECONDS = ("cost/train_seconds", "cost/evaluate_seconds")  # what a run spends on its own work
# The digits are bounded, since a record is untrusted input.
_AGGREGATION = re.compile(r"best|last|mean[1-9][0-9]{0,5}")
_CONSTRAINT = re.compile(r"\s*(\S.*?)\s*(<=|>=)\s*(\S+)\s*")


@dataclass(frozen=True)
class Objective:
    """One metric, and how a run's evaluations make one score of it."""

    metric: str  # full name: val/f1_macro, cost/train_seconds
    direction: Direction
    aggregation: str  # best, last, or mean3: the mean of the last three

    @property
    def is_cost(self) -> bool:
        """Whether it measures a run's cost, not its quality."""
        return is_cost(self.metric)

    @property
    def name(self) -> str:
        """The metric without its split."""
        return self.metric.removeprefix("val/")

    def score(self, history: Sequence[float]) -> float:
        """Make one score of the values of all evaluations so far; there is at least one."""
        if self.aggregation == "best":
            return max(history) if self.direction == "maximize" else min(history)
        last = 1 if self.aggregation == "last" else int(self.aggregation.removeprefix("mean"))
        return fmean(history[-last:])


@dataclass(frozen=True)
class Constraint:
    """A limit on a metric of the best evaluation, or on a cost."""

    metric: str
    at_least: bool
    limit: float
    text: str  # as the user wrote it

    @property
    def is_cost(self) -> bool:
        """Whether it limits what a run costs."""
        return is_cost(self.metric)

    def excess(self, value: float) -> float:
        """Return by how much a value violates the limit; 0 or less if it satisfies it."""
        return self.limit - value if self.at_least else value - self.limit


def objectives(experiment: Experiment) -> tuple[Objective, ...]:
    """Return the objectives of an experiment; the first one decides which weights are kept.

    Raises:
        ConfigError: if the task does not produce a metric on the validation split, or the first
            objective cannot judge a run.
    """
    found = tuple(read_objective(experiment, text) for text in experiment.evaluation.objectives)
    if found[0].is_cost:
        raise ConfigError(
            f"evaluation.objective={found[0].metric}: the first objective decides which weights "
            "are kept; expected a metric of the validation split, such as val/f1_macro."
        )
    return found


def constraints(experiment: Experiment) -> tuple[Constraint, ...]:
    """Return the limits that a run's metrics must satisfy.

    Raises:
        ConfigError: for an invalid comparison, or a metric that the task does not produce.
    """
    found = []
    for text in experiment.evaluation.constraints:
        parts = _CONSTRAINT.fullmatch(text)
        try:
            limit = float(parts[3]) if parts else None
        except ValueError:
            limit = None
        if parts is None or limit is None:
            raise ConfigError(
                f"evaluation.constraints={text!r}: expected a metric, >= or <=, and a number, such "
                "as 'val/recall/positive >= 0.9'."
            )
        _direction(experiment, parts[1], "evaluation.constraints")
        found.append(Constraint(logged_name(parts[1]), parts[2] == ">=", limit, text))
    return tuple(found)


def logged_metrics(experiment: Experiment, metrics: Mapping[str, float]) -> dict[str, float]:
    """Return what a record has as metrics: the main ones, and those that judge the run.

    A baseline's are those of the objectives. The tables of scores have all others.
    """
    goals = {goal.name for goal in objectives(experiment)}
    named = goals | {limit.metric.removeprefix("val/") for limit in constraints(experiment)}
    baseline = f"{get_task(experiment.task).baseline_name}/"

    def is_logged(metric: str) -> bool:
        name = metric.partition("/")[2]
        if name.startswith(baseline):
            return name.removeprefix(baseline) in goals
        return name in named or not is_detail(name)

    return {metric: value for metric, value in metrics.items() if is_logged(metric)}


def check_labels(experiment: Experiment, labels: Sequence[str]) -> None:
    """Refuse a metric of a label that the data lacks.

    Raises:
        ConfigError: naming the label and the nearest one.
    """
    names = [metric_name(name) for name in labels]
    goals = [goal.metric for goal in objectives(experiment)]
    for metric in [*goals, *(limit.metric for limit in constraints(experiment))]:
        _, _, label = metric.removeprefix("val/").partition("/")
        if not is_cost(metric) and label and label not in names:
            given = label_in(label)
            if not labels:
                whole = metric.removesuffix(f"/{label}")
                raise ConfigError(f"evaluation: {metric}: it has no parts here; expected {whole}.")
            raise ConfigError(
                f"evaluation: {metric}: the data has no label {given!r}."
                f"{did_you_mean(given, labels)} Found {listing(labels)}."
            )


def check_comparable(experiments: Sequence[Experiment]) -> None:
    """Refuse to compare models with several tokenizers by a metric of their tokens.

    Args:
        experiments: of one search, trained here; their objectives and tasks are those of the first.

    Raises:
        ConfigError: naming a metric that is comparable.
    """
    from pipeline.models import find_checkpoint
    from pipeline.models.digests import tokenizer_digest

    models = {experiment.model: find_checkpoint(experiment.model) for experiment in experiments}
    tokenizers = {tokenizer_digest(found.tokenizer): found.name for found in models.values()}
    for goal in objectives(experiments[0]) if len(tokenizers) > 1 else ():
        task = get_task(experiments[0].task)
        if goal.name in task.per_token:
            names = [n for n in task.metrics(experiments[0].task) if n not in task.per_token]
            best = "bits_per_byte" if "bits_per_byte" in names else names[0]
            raise ConfigError(
                f"evaluation.objective={goal.metric}: it is a mean over tokens, and the models "
                f"that are compared have {len(tokenizers)} tokenizers "
                f"(of {listing(sorted(tokenizers.values()))}); expected a metric that no tokenizer "
                f"changes, such as val/{best}."
            )


def read_objective(
    experiment: Experiment, text: str, key: str = "evaluation.objective"
) -> Objective:
    """Read one objective as the config writes it; ``key`` is its key.

    Raises:
        ConfigError: for a metric that the task does not produce, or an unknown aggregation.
    """
    return parse(text, _direction(experiment, text.partition("@")[0], key), key)


def parse(text: str, direction: Direction, key: str = "evaluation.objective") -> Objective:
    """Read an objective as a config writes it, whether or not a task produces the metric.

    Raises:
        ConfigError: for an unknown aggregation.
    """
    metric, at, aggregation = text.partition("@")
    if at and not _AGGREGATION.fullmatch(aggregation):
        raise ConfigError(f"{key}={text}: expected @best, @last or @mean with a number (@mean3).")
    return Objective(logged_name(metric), direction, aggregation or "best")


def _direction(experiment: Experiment, metric: str, key: str) -> Direction:
    """Return in which direction a metric improves, by its own definition."""
    if metric in COSTS:
        return COSTS[metric]
    asked = experiment.evaluation
    directions = {
        **get_task(experiment.task).metrics(experiment.task),
        **(SLICE_METRICS if asked.slices else {}),
        **(SWAP_METRICS if asked.counterfactual else {}),
    }
    split, _, name = metric.partition("/")
    head, slash, label = name.partition("/")
    found = directions.get(head + slash if slash else name)
    if split != "val" or found is None or (slash and not label):
        if name in SLICE_METRICS or name in SWAP_METRICS:
            given = "slices=[column]" if name in SLICE_METRICS else "counterfactual=default"
            raise ConfigError(f"{key}={metric}: it is computed with evaluation.{given}.")
        valid = [f"val/{name}{'<label>' if name.endswith('/') else ''}" for name in directions]
        raise ConfigError(
            f"{key}={metric}: the task {experiment.task.name} does not produce it on the "
            f"validation split.{did_you_mean(metric, [*valid, *COSTS])} "
            f"Valid: {listing([*valid, *COSTS], most=20)}."
        )
    return found
