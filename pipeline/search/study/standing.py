"""How a study's trials stand against each other, however far each of them came."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from pipeline.common.contract import Direction
from pipeline.search.study.trials import violation

MOST = 200  # trials that are compared: those that came furthest, the best of them
_DONE = math.inf  # the step of a complete trial's score


@dataclass(frozen=True)
class _Entry:
    """A trial's losses by step; less is better."""

    broken: float  # by how much it breaks its constraints
    steps: Sequence[float]
    losses: Sequence[float]

    def at(self, step: float) -> float:
        """Return the loss at a step, or the first after it."""
        return self.losses[min(bisect_left(self.steps, step), len(self.losses) - 1)]


def standings(
    trials: Sequence[FrozenTrial], direction: Direction, reported: Direction
) -> dict[int, tuple[float, bool]]:
    """Return the share of the others that a trial is no better than, and whether it may win.

    Two trials are compared at the furthest step that both have been through, so what was pruned,
    waits or still runs is judged as pruners judge it: at equal budget. One that breaks a
    constraint, ran out of memory or diverged loses to all that did not, and may not win.

    Args:
        trials: of one objective; without a score, as failed ones, they are left out.
        direction: of the objective.
        reported: of what trials report on the way.

    Returns:
        By the trial's number.
    """
    every = {t.number: entry for t in trials if (entry := _entry(t, direction, reported))}
    furthest = sorted(
        every, key=lambda n: (every[n].broken, -every[n].steps[-1], every[n].losses[-1])
    )
    entries = {number: every[number] for number in furthest[:MOST]}
    shares = {}
    for number, own in entries.items():
        lost = sum(_lost(own, other) for n, other in entries.items() if n != number)
        shares[number] = (lost / max(len(entries) - 1, 1), own.broken == 0)
    return shares


def _entry(trial: FrozenTrial, direction: Direction, reported: Direction) -> _Entry | None:
    if trial.state in (TrialState.WAITING, TrialState.FAIL):
        return None
    reports = sorted(trial.intermediate_values.items())
    points = [(float(step), _loss(score, reported)) for step, score in reports]
    if trial.state == TrialState.COMPLETE:
        points.append((_DONE, _loss(trial.values[0], direction)))
    elif trial.state == TrialState.PRUNED and not points:
        points.append((0.0, math.inf))  # it was not worth a score
    if not points:
        return None
    steps, losses = zip(*points, strict=True)
    return _Entry(violation(trial), steps, losses)


def _loss(score: float, direction: Direction) -> float:
    loss = -score if direction == "maximize" else score
    return math.inf if math.isnan(loss) else loss


def _lost(own: _Entry, other: _Entry) -> float:
    """Return 1 where the other is better, 0.5 where both are alike."""
    both = min(own.steps[-1], other.steps[-1])
    one, two = own.at(both), other.at(both)
    if own.broken or other.broken:
        one, two = own.broken, other.broken
    return 0.5 if one == two else float(two < one)
