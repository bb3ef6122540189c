"""Few points that together serve many former studies: what a new search tries first.

The choice is greedy on a matrix of regrets, points by studies, as in FLAML's zero-shot AutoML
(Wang et al., 2022, arXiv 2202.09927). Scores are compared within a study only: a regret of 0 is the
study's best point, 1 its median. What a study says of a point that it has not tried is what it says
of the nearest one that it has, if that is near; else the point counts as the study's median, which
is what drawing one of its points would give.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution

from pipeline.search.space.space import Space

NEAR = 0.1  # of a key's range, its logarithm where that is searched; choices have to be the same
_FAR = 10.0  # between two choices, or a key and none


@dataclass(frozen=True)
class Scored:
    """A point that a study tried."""

    at: Mapping[str, float | str]  # by parameter: where in its range, from 0 to 1, or which choice
    loss: float  # less is better; infinite where it ended before it had a score that compares


@dataclass(frozen=True)
class Chosen:
    """A point of a portfolio."""

    study: int  # that tried it
    point: int  # which of that study's
    # Of the studies that it serves better than the points before it, and that tried it or one near
    # it: that point's rank there, from 1.
    ranks: Mapping[int, int] = field(default_factory=dict)


def portfolio(studies: Sequence[Sequence[Scored]], k: int) -> list[Chosen]:
    """Return at most k points, each for the studies that those before it serve worst.

    Of all tried points the next one is that with which the largest regret of any study is the
    smallest, then their mean; of equals the first one. It ends early where no point brings more.
    """
    rows, owners = _rows(studies)
    if not rows.size:
        return []
    columns = [_column(rows, owners == number, some) for number, some in enumerate(studies)]
    regret = np.stack([regrets for regrets, _ in columns], axis=1)
    chosen: list[Chosen] = []
    so_far = np.full(len(studies), np.inf)
    while len(chosen) < k:
        together = np.minimum(regret, so_far)
        best = int(np.lexsort((together.mean(axis=1), together.max(axis=1)))[0])
        gained = together[best] < so_far - 1e-12
        if not gained.any():
            break
        ranks = {int(s): int(columns[s][1][best]) for s in np.flatnonzero(gained)}
        first = int(np.flatnonzero(owners == owners[best])[0])
        known = {study: rank for study, rank in ranks.items() if rank}
        chosen.append(Chosen(int(owners[best]), best - first, known))
        so_far = together[best]
    return chosen


def coordinates(space: Space, params: Mapping[str, Any]) -> dict[str, float | str]:
    """Return where a point of a space lies, as `Scored` has it."""
    at: dict[str, float | str] = {}
    for dimension in space.dimensions:
        key, d = dimension.key, dimension.distribution
        if key not in params:
            continue
        if isinstance(d, CategoricalDistribution):
            at[key] = repr(params[key])
        elif d.low == d.high:
            at[key] = 0.0
        else:
            low, high, value = map(math.log if d.log else float, (d.low, d.high, params[key]))
            at[key] = (value - low) / (high - low)
    return at


def _rows(studies: Sequence[Sequence[Scored]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return all points as rows of numbers, and the study of each."""
    points = [scored.at for study in studies for scored in study]
    keys = sorted({key for point in points for key in point})
    codes: dict[str, float] = {}

    def number(value: float | str | None) -> float:
        if value is None:
            return -_FAR
        return codes.setdefault(value, _FAR * len(codes)) if isinstance(value, str) else value

    rows = np.array([[number(point.get(key)) for key in keys] for point in points], dtype=float)
    return rows, np.repeat(np.arange(len(studies)), [len(study) for study in studies])


def _column(
    rows: NDArray[Any], own: NDArray[Any], study: Sequence[Scored]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return each point's regret in a study, and the rank of what stands for it; 0: not known."""
    losses = np.array([scored.loss for scored in study])
    finite = losses[np.isfinite(losses)]
    if not finite.size:
        return np.zeros(len(rows)), np.zeros(len(rows), dtype=int)
    losses = np.where(np.isfinite(losses), losses, finite.max())
    best, median = losses.min(), float(np.median(losses))
    away = np.abs(rows[:, None, :] - rows[own][None, :, :]).max(axis=2)
    nearest = away.argmin(axis=1)
    is_known = away.min(axis=1) <= NEAR
    scale = median - best or losses.max() - best or 1.0
    regrets = np.where(is_known, losses[nearest] - best, median - best) / scale
    ranks = 1 + (losses[None, :] < losses[:, None]).sum(axis=1)
    return regrets, np.where(is_known, ranks[nearest], 0)
