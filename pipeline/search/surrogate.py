"""What is expected of points that were not tried, from those that were: a small Gaussian process.

Its scales are given, not fitted, so it is of use from the second trial on.
"""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Position = tuple[float | None, ...]  # of a point on each key's axis; None where it lacks the key
Floats = NDArray[np.float64]

_NOISE = 0.05  # of a loss, as a share of the losses' variance
_APART = 1.5  # widths between choices without order, and between a value and none
_NORMAL = NormalDist()


def improvements(
    tried: Sequence[Position],
    losses: Sequence[float | None],
    candidates: Sequence[Position],
    has_order: Sequence[bool],
    width: float,
) -> list[float]:
    """Return by how much each candidate is expected to lower the least loss, in their own unit.

    A point without a loss yet counts as if it had the one expected of it, so that what runs at
    once is not alike. Before any loss is known, what is far from all points is expected most of.

    Args:
        tried: points, n of them.
        losses: theirs, None where not known.
        candidates: points to judge.
        has_order: of each key, whether near positions are alike.
        width: a standard deviation of what is near.
    """
    order = np.array(has_order)
    points, asked = (_array(every, len(order)) for every in (tried, candidates))
    known = np.array([loss is not None for loss in losses], dtype=np.bool_)
    scores = np.array([loss for loss in losses if loss is not None], dtype=np.float64)
    if len(scores):
        scores = (scores - scores.mean()) / (scores.std() or 1.0)
    alike = _likeness(points, points, order, width)  # n x n
    noisy = alike + _NOISE * np.eye(len(points))
    filled = np.zeros(len(points))
    filled[known] = scores
    filled[~known] = alike[~known][:, known] @ np.linalg.solve(noisy[known][:, known], scores)
    near = _likeness(asked, points, order, width)  # m x n
    means = near @ np.linalg.solve(noisy, filled)
    variances = 1.0 - np.einsum("mn,nm->m", near, np.linalg.solve(noisy, near.T))
    least = float(scores.min(initial=0.0))
    return [
        _improvement(least - float(mean), max(float(variance), 1e-9) ** 0.5)
        for mean, variance in zip(means, variances, strict=True)
    ]


def _improvement(gain: float, spread: float) -> float:
    """Return the expected improvement (Jones et al., 1998)."""
    return gain * _NORMAL.cdf(gain / spread) + spread * _NORMAL.pdf(gain / spread)


def _likeness(ones: Floats, others: Floats, order: NDArray[np.bool_], width: float) -> Floats:
    """Return how alike points are, from 0 to 1.

    Half of it is the mean over the keys, so that one that does not matter hides little of one
    that does.
    """
    apart = np.abs(ones[:, None, :] - others[None, :, :]) / width
    lacks = np.isnan(ones)[:, None, :] != np.isnan(others)[None, :, :]
    apart = np.where(np.isnan(apart), 0.0, apart)
    apart = np.where(lacks | (~order & (apart > 0)), _APART, apart)
    near = np.exp(-(apart**2) / 2)
    likeness: Floats = (near.mean(axis=2) + near.prod(axis=2)) / 2
    return likeness


def _array(points: Sequence[Position], keys: int) -> Floats:
    return np.array(points, dtype=np.float64).reshape(-1, keys)  # None becomes nan
