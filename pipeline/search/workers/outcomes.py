"""Outcomes of trials: the mean over a trial's seeds, and whether the study can take them."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from pipeline.search.searchable import Outcome


def mean_of(outcomes: Sequence[Outcome]) -> Outcome:
    """Make one outcome of those of all seeds: all that is told and shown of a point is a mean."""

    def by_name(every: Sequence[Mapping[str, float]]) -> dict[str, float]:
        return {name: fmean(one[name] for one in every) for name in every[0]}

    return Outcome(
        means_of([o.values for o in outcomes]),
        constraints=by_name([o.constraints for o in outcomes]),
        costs=by_name([o.costs for o in outcomes]),
    )


def means_of(every: Sequence[Sequence[float]]) -> list[float]:
    """Return the mean of each score over several seeds."""
    return [fmean(column) for column in zip(*every, strict=True)]


def check_scores(outcome: Outcome, objectives: int) -> None:
    """Refuse scores that the study cannot take.

    Raises:
        ValueError: for too many or too few, and for those that are no finite numbers.
    """
    if outcome.state != "complete":
        return
    if len(outcome.values) != objectives:
        raise ValueError(f"found {len(outcome.values)} scores, expected {objectives}")
    if not all(math.isfinite(v) for v in outcome.values):
        raise ValueError(f"the score is {list(outcome.values)}, expected finite numbers")
