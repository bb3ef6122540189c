"""How a study's trials stand against each other, however far each of them came."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from pipeline.common.contract import Direction
from pipeline.search.study.trials import PAUSED_AT, violation

MOST = 200  # trials that are ranked, the best
_Rank = tuple[float, float, float]


def standings(
    trials: Sequence[FrozenTrial], direction: Direction, reported: Direction
) -> dict[int, tuple[float, bool]]:
    """Return the share of the others that are better than a trial, and whether it may win.

    Complete trials come first, by their scores, then those that were pruned or wait: who came
    further is better, as only the better ones were let, and of those that came as far, who has the
    better score there. A trial that breaks a constraint, ran out of memory or diverged comes after
    all that did not, and may not win. Left out are trials that run, failed, or come too late in the
    ranking.

    Args:
        trials: of one objective.
        direction: of the objective.
        reported: of what trials report on the way.

    Returns:
        By the trial's number.
    """
    found = {t.number: rank for t in trials if (rank := _rank(t, direction, reported))}
    ranks = sorted(found.values())[:MOST]
    others = max(len(ranks) - 1, 1)
    shares = {}
    for number, rank in found.items():
        if ranks and rank <= ranks[-1]:
            equals = bisect_right(ranks, rank) - bisect_left(ranks, rank) - 1
            shares[number] = ((bisect_left(ranks, rank) + equals / 2) / others, rank[0] == 0)
    return shares


def _rank(trial: FrozenTrial, direction: Direction, reported: Direction) -> _Rank | None:
    """Return what a trial is ranked by; less is better."""
    broken, reports = violation(trial), trial.intermediate_values
    if trial.state == TrialState.COMPLETE:
        return broken, -math.inf, _loss(trial.values[0], direction)
    waits = trial.state == TrialState.RUNNING and trial.user_attrs.get(PAUSED_AT) is not None
    if trial.state != TrialState.PRUNED and not waits:
        return None
    step = max(reports, default=-1)
    return broken, -float(step), _loss(reports.get(step, math.nan), reported)


def _loss(score: float, direction: Direction) -> float:
    loss = -score if direction == "maximize" else score
    return math.inf if math.isnan(loss) else loss
