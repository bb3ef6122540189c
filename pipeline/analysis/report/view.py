"""The view of a study that texts and charts share: its trials, best first, and its scales."""

from __future__ import annotations

import json
import math
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from pipeline.search.pruners import PauseAndPromote, make_pruner
from pipeline.search.space.dimension import encode
from pipeline.search.study.trials import all_params, best_first, ended, in_force, score_texts
from pipeline.tracking import tags
from pipeline.training.outcome import EPOCH

SHOWN_PARAMS = 12  # in the charts that have a panel or an axis for each
SHOWN_CHOICES = 12  # labels on the axis of a choice
MANY = 100  # trials from which the points in charts are rasterized
IMPORTANCE_TRIALS = 10  # complete trials below which importances are mostly noise
LABEL = 32  # characters of a text in a chart


@dataclass(frozen=True)
class About:
    """What the page says about a study that the study itself does not know."""

    objectives: tuple[str, ...]
    state: str  # running, unfinished, complete or failed
    pruner: Mapping[str, Any]
    unit: int = EPOCH  # steps that a trial reports for one unit of its budget
    unit_name: str = "epochs"
    best_is_lost: bool = False  # its run was deleted in MLflow

    @classmethod
    def read(cls, known: Mapping[str, str], params: Mapping[str, str]) -> About:
        """Read it from the tags and parameters of the study's parent run."""
        return cls(
            objectives=tuple(known[tags.OBJECTIVE].split(", ")),
            state=known[tags.STATE],
            pruner=json.loads(params.get("search.pruner", "{}")),
        )

    @property
    def reported(self) -> str:
        """The metric that trials report during training."""
        return str(self.pruner.get("metric") or self.objectives[0])

    def rungs(self, most: float) -> list[float]:
        """Return the budgets up to ``most`` at which trials pause."""
        pruner = make_pruner(self.pruner, self.unit)
        if not isinstance(pruner, PauseAndPromote):
            return []
        count = pruner.rung(int(most * self.unit))
        steps = (pruner.min_resource * pruner.reduction_factor**n for n in range(count))
        return [step / self.unit for step in steps]


class View:
    """What several parts of the page look at."""

    def __init__(self, study: optuna.Study, about: About) -> None:
        self.study = study
        self.about = about
        self.trials = in_force(study)
        self.over = ended(study)
        self.ranked = best_first(study)
        self.complete = sorted(self.ranked, key=lambda t: t.number)
        self.best = self.ranked[0].number if self.ranked else None
        # Rasterized, 300 points take as little space as 30.
        self.raster = len(self.over) > MANY

    @cached_property
    def varying(self) -> list[Scale]:
        """The parameters that differ between trials, in the order in which they came."""
        values: dict[str, dict[str, Any]] = defaultdict(dict)
        distributions: dict[str, Any] = {}
        for trial in self.over:
            for key, value in all_params(trial).items():
                values[key][repr(value)] = value
            distributions |= trial.distributions
        return [
            Scale.of(key, list(seen.values()), distributions[key])
            for key, seen in values.items()
            if len(seen) > 1 and key in distributions
        ]

    @cached_property
    def importances(self) -> dict[str, float]:
        """Each varying parameter's importance, the highest first; none where trials are few."""
        if len(self.complete) < IMPORTANCE_TRIALS or len(self.varying) < 2:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of few trials: the caption says it
            found = optuna.importance.get_param_importances(self.study)
        return {k: v for k, v in found.items() if k in {s.key for s in self.varying}}

    def tip(self, trial: FrozenTrial, keys: Iterable[str] | None = None) -> str:
        """Return what a trial's mark in a chart says: its scores, and its values of these keys."""
        shown = [scale.key for scale in self.varying] if keys is None else keys
        params = all_params(trial)
        values = (f"{key}={encode(params[key])}" for key in shown if key in params)
        return f"trial {trial.number}: {', '.join([*score_texts(trial, '.4g'), *values])}"

    @property
    def charted(self) -> list[Scale]:
        """The parameters that the charts show: the most important ones where there are many."""
        if len(self.varying) <= SHOWN_PARAMS or not self.importances:
            return self.varying[:SHOWN_PARAMS]
        shown = list(self.importances)[:SHOWN_PARAMS]
        return [scale for scale in self.varying if scale.key in shown]

    @property
    def left_out(self) -> str:
        """A sentence on the parameters that the charts do not show."""
        count = len(self.varying) - len(self.charted)
        which = "the most important" if self.importances else "the first"
        return f" Shown are {which} {SHOWN_PARAMS} parameters; {count} more vary." if count else ""


def most_important(study: optuna.Study) -> list[str]:
    """Return a study's varying parameters, the most important first; none where trials are few."""
    return list(View(study, About((), "running", {})).importances)


@dataclass(frozen=True)
class Scale:
    """A varying parameter, and where its values lie on an axis."""

    key: str
    log: bool
    choices: tuple[str, ...]  # the values in order, where they are a choice
    low: float
    high: float

    @classmethod
    def of(cls, key: str, values: Sequence[Any], distribution: Any) -> Scale:
        """Return the scale of a parameter that took these values."""
        if isinstance(distribution, CategoricalDistribution):
            numbers = all(isinstance(v, int | float) for v in values)
            in_order = (
                sorted(values)
                if numbers  # a stage may have fixed one that is no choice
                else sorted(values, key=[*distribution.choices, *values].index)
            )
            names = tuple(dict.fromkeys(encode(v) for v in in_order))
            return cls(key, False, names, 0.0, float(max(len(names) - 1, 1)))
        # A stage may have kept a 0 of the config, which no logarithm shows.
        return cls(key, distribution.log and min(values) > 0, (), min(values), max(values))

    def position(self, value: Any) -> float:
        """Return a value's place on the axis of a slice."""
        return float(self.choices.index(encode(value)) if self.choices else value)

    def share(self, value: Any) -> float:
        """Return how far a value lies between the lowest and the highest, 0 to 1."""
        low, high, at = self.low, self.high, self.position(value)
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return (at - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        """Return positions and labels of a choice, thinned out where there are many."""
        every = -(-len(self.choices) // SHOWN_CHOICES)
        return [(float(i), short(c, 18)) for i, c in enumerate(self.choices) if i % every == 0]


def goal(direction: StudyDirection) -> str:
    """Return a direction as text."""
    return "higher is better" if direction == StudyDirection.MAXIMIZE else "lower is better"


def short(text: str, most: int = LABEL) -> str:
    """Return a text on one line, cut to a number of characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
