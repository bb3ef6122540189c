"""Replays searches on recorded curves: our own engine, in which a training is a look into a file.

Samplers, pruners, pauses and promotions are those of a real search, with one worker; only Hydra,
MLflow and training are left out. A learning rate between two recorded ones is the nearer of them
on the log scale. Of a point's seeds each replay draws one, so noise misleads as it does for real.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import optuna
from curves import KEYS, RATES, Curves, Point
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import Trial
from start import rule

from pipeline.common.contract import STATE_AFTER
from pipeline.common.errors import DivergedError
from pipeline.search.searchable import Outcome, Searchable
from pipeline.search.space.dimension import Params
from pipeline.search.space.grammar import parse_space
from pipeline.search.space.space import Space
from pipeline.search.study.budget import Budget
from pipeline.search.study.history import DEFAULT_POINTS
from pipeline.search.study.portfolio import Scored, coordinates, portfolio
from pipeline.search.study.queue import queue_grid
from pipeline.search.study.study import StudySpec
from pipeline.search.study.trials import ended, kind_of_failure
from pipeline.search.workers.reporter import Reporter
from pipeline.search.workers.worker import TrialLoop, Worker

_NO_HYDRA: Any = SimpleNamespace(config_loader=None)  # nothing is composed
_OTHERS = ("training.batch_size=8,16,32", "schedule.warmup=0.0,0.1")
CONTINUOUS = parse_space([f"{KEYS[0]}=tag(log, interval(1e-5, 1e-2))", *_OTHERS])
GRID = parse_space([f"{KEYS[0]}={','.join(map(str, RATES))}", *_OTHERS])
OWN = {KEYS[1]: 16, KEYS[2]: 0.1}  # of conf/training and conf/schedule, whose 0.06 is nearest to it
UNIT = 1000  # steps of a report in a whole run
SHARES = (1 / 40, 1 / 20, 1 / 10, 1 / 5)  # of the grid's steps, at which regret is told


@dataclass(frozen=True)
class Way:
    """How to search."""

    sampler: Mapping[str, Any]
    pruner: Mapping[str, Any] = field(default_factory=dict)
    rungs: tuple[float, ...] = ()  # shares of a run at which it is scored before its end
    rows: str = "all"  # validation rows that are scored there
    is_grid: bool = False  # else the learning rate is continuous
    history: bool = False  # it begins with what the other data sets' grids recommend
    centre: str = ""  # of a prior: "rule", where optimizer.learning_rate=auto begins, or "worst"


@dataclass
class Replayed:
    """What a replay came to."""

    to_target: float  # share of the grid's steps until the best trial is good enough; inf: never
    regrets: tuple[float, ...]  # of the best trial at SHARES


class Recorded(Searchable):
    """Instead of training, looks up what a training scored; counts its steps."""

    unit = UNIT
    can_pause = True

    def __init__(self, curves: Curves, way: Way, seed: int) -> None:
        super().__init__(lambda _: None)
        self._curves, self._way, self._seed = curves, way, seed
        self.steps = 0
        self.done: list[tuple[int, float, Point]] = []  # steps so far, score, point

    def replay(self, params: Params, report: Reporter, before: Outcome | None) -> Outcome:
        """Train, as far as it goes, from where it was paused."""
        point = self._curves.nearest(params)
        curve = self._curves.draw(point, random.Random(f"{self._seed}:{point}"))
        made: int = before.kept if before else 0
        for share in self._way.rungs:
            at, score = curve.at(share, self._way.rows)
            if at <= made:
                continue
            self.steps, made = self.steps + at - made, at
            verdict = report(_finite(score), share)
            if verdict != "continue":
                return Outcome([_finite(score)], STATE_AFTER[verdict], kept=made)
        at, score = curve.at(1.0, "all")
        self.steps += at - made
        self.done.append((self.steps, _finite(score), point))
        return Outcome([_finite(score)])

    def best(self, steps: float = math.inf) -> Point | None:
        """Return the point with the best score of those that ended within so many steps."""
        ended = [one for one in self.done if one[0] <= steps]
        return max(ended, key=lambda one: one[1])[2] if ended else None

    def free_memory(self) -> None:
        """There is nothing to free."""


def _finite(score: float | None) -> float:
    if score is None:
        raise DivergedError("as recorded")
    return score


class _Loop(TrialLoop):
    """A worker's loop that composes no configs."""

    def _launch(self, trial: Trial, reporter: Reporter, before: Outcome | None) -> Outcome:
        task: Any = self._task
        outcome: Outcome = task.replay(trial.params, reporter, before)
        return outcome


@dataclass(frozen=True)
class _Spec(StudySpec):
    """A study in memory, which ends when it is told to."""

    memory: Any = field(default_factory=InMemoryStorage, hash=False)
    is_over: Callable[[], bool] = field(default=lambda: False, hash=False)

    def open(self, storage: BaseStorage | None = None) -> optuna.Study:
        """Open the study in memory."""
        return super().open(storage or self.memory)

    def why_over(self, _: optuna.Study) -> str | None:
        """End at once where it is over."""
        return "it has shown enough" if self.is_over() else None


def space_of(curves: Curves, way: Way) -> Space:
    """Return the space that a way searches, with its centre."""
    if way.is_grid:
        return GRID
    centre: Params = {}
    if way.centre == "rule":
        centre = {KEYS[0]: rule(OWN[KEYS[1]]), **OWN}
    elif way.centre == "worst":
        centre = dict(zip(KEYS, curves.worst, strict=True))
    return replace(CONTINUOUS, centre=centre)


def recommended(others: Sequence[Curves]) -> list[Params]:
    """Return what `hydra.sweeper.first=history` queues where the grids of others are known."""
    points = [[dict(zip(KEYS, point, strict=True)) for point in one.qualities] for one in others]
    scored = [
        [
            Scored(coordinates(CONTINUOUS, p), -q)
            for p, q in zip(some, one.qualities.values(), strict=True)
        ]
        for one, some in zip(others, points, strict=True)
    ]
    return [points[chosen.study][chosen.point] for chosen in portfolio(scored, DEFAULT_POINTS)]


def replay(curves: Curves, way: Way, seed: int, first: Sequence[Params] = ()) -> Replayed:
    """Search a data set's recorded curves once, with these points first."""
    task = Recorded(curves, way, seed)
    found: list[float] = []

    def is_over() -> bool:
        best = task.best()
        if not found and best is not None and curves.qualities[best] >= curves.target:
            found.append(task.done[-1][0] / curves.steps)
        shown = task.steps >= max(SHARES) * curves.steps
        return bool(found and shown) or task.steps >= curves.steps

    spec = _Spec(
        name="replay",
        storage="",
        directions=("maximize",),
        space=space_of(curves, way),
        sampler=way.sampler,
        pruner=way.pruner,
        reported="maximize",
        unit=UNIT,
        seed=seed,
        budget=Budget(len(curves.by_point)),
        max_failure_rate=1.0,
        retries=0,
        trial_seconds=None,
        is_over=is_over,
    )
    for point in first:
        spec.open().enqueue_trial(point)
    if spec.is_grid:
        queue_grid(spec.open(), spec)
    _Loop(Worker(spec, _NO_HYDRA, _NO_HYDRA, task)).work()
    assert {kind_of_failure(trial) for trial in ended(spec.open(), "failed")} <= {"diverged"}
    is_over()
    regrets = [curves.regret(task.best(share * curves.steps)) for share in SHARES]
    return Replayed(found[0] if found else math.inf, tuple(regrets))
