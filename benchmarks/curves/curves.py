"""Recorded learning curves, read and asked."""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

HERE = Path(__file__).parent
KEYS = ("optimizer.learning_rate", "training.batch_size", "schedule.warmup")
FIELDS = ("learning_rate", "batch_size", "warmup")  # the same in a recorded line
RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)
SHARES = (0.04, 0.12, 0.36, 0.6, 1.0)  # of a run, at which it was scored
SAMPLES = (100, 200)  # validation rows that are scored apart; "all" is the whole split
Point = tuple[float, int, float]  # the values of KEYS


def lines_of(name: str, folder: Path = HERE) -> list[dict[str, Any]]:
    """Return the lines that are recorded of a data set."""
    path = folder / f"{name}.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


@dataclass(frozen=True)
class Curve:
    """One training: what it scored at SHARES of its length."""

    steps: tuple[int, ...]  # of the optimizer
    scores: Mapping[str, tuple[float, ...]]  # by rows; shorter where the training diverged
    error: float  # standard error of the last score on all rows

    @property
    def last(self) -> float:
        """The score at the end; 0 where it diverged."""
        return self.scores["all"][-1] if len(self.scores["all"]) == len(SHARES) else 0.0

    def at(self, share: float, rows: str) -> tuple[int, float | None]:
        """Return the step and the score at a share of the training; None where it diverged."""
        place = SHARES.index(share)
        scores = self.scores[rows]
        return self.steps[place], scores[place] if place < len(scores) else None


class Curves:
    """All trainings of a data set."""

    def __init__(self, name: str, folder: Path = HERE) -> None:
        self.name = name
        self.by_point: dict[Point, list[Curve]] = defaultdict(list)
        for line in lines_of(name, folder):
            scores = {rows: tuple(found) for rows, found in line["scores"].items()}
            point: Any = tuple(line[field] for field in FIELDS)
            self.by_point[point].append(Curve(tuple(line["steps"]), scores, line["error"]))

    @cached_property
    def steps(self) -> int:
        """The steps of the whole grid, each point trained once."""
        return sum(curves[0].steps[-1] for curves in self.by_point.values())

    @cached_property
    def qualities(self) -> dict[Point, float]:
        """The mean score of each point's seeds at their ends."""
        return {p: fmean(c.last for c in curves) for p, curves in self.by_point.items()}

    @cached_property
    def best(self) -> Point:
        """The point with the best mean score."""
        return max(self.qualities, key=lambda point: self.qualities[point])

    @cached_property
    def worst(self) -> Point:
        """The point with the worst mean score."""
        return min(self.qualities, key=lambda point: self.qualities[point])

    @cached_property
    def target(self) -> float:
        """One standard error below the best mean score."""
        return self.qualities[self.best] - fmean(c.error for c in self.by_point[self.best])

    def regret(self, point: Point | None) -> float:
        """Return by how much a point's mean score is below the best; of none: the worst's."""
        return self.qualities[self.best] - self.qualities[point or self.worst]

    def nearest(self, params: Mapping[str, Any]) -> Point:
        """Return the recorded point that is nearest, by the logarithm of the learning rate."""
        rate, *others = (params[key] for key in KEYS)
        like = [point for point in self.by_point if list(point[1:]) == others]
        return min(like, key=lambda point: abs(math.log(point[0] / rate)))

    def draw(self, point: Point, chance: random.Random) -> Curve:
        """Return one of a point's trainings."""
        return chance.choice(self.by_point[point])
