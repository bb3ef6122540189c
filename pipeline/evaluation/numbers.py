"""Scores of predicted numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def number_scores(predicted: Array, true: Array, columns: Sequence[str]) -> dict[str, float]:
    """Score predictions of one column of numbers, or of several.

    Args:
        predicted: of shape [rows, columns].
        true: of the same shape.
        columns: what they are called.

    Returns:
        ``rmse`` and ``mae`` in the numbers' unit; ``r2``, the share of the variance that is
        explained, at most 1, and 0 where the true numbers are constant; ``pearson`` and
        ``spearman``, correlations from -1 to 1, 0 where either side is constant. Of several columns
        the means, whatever their units, and ``rmse/<column>`` … of each.
    """
    each = [_scores(*both) for both in zip(predicted.T, true.T, strict=True)]
    means = {name: float(np.mean([of[name] for of in each])) for name in each[0]}
    if len(columns) == 1:
        return means
    from pipeline.evaluation.names import metric_name

    named = zip(columns, each, strict=True)
    return means | {
        f"{name}/{metric_name(column)}": value for column, of in named for name, value in of.items()
    }


def _scores(predicted: Array, true: Array) -> dict[str, float]:
    from scipy.stats import rankdata

    off = predicted - true
    spread = float(((true - true.mean()) ** 2).sum()) if np.ptp(true) else 0.0
    squares = float((off**2).sum())
    return {
        "rmse": math.sqrt(squares / len(off)),
        "mae": float(np.abs(off).mean()),
        "r2": 1 - squares / spread if spread else 0.0,
        "pearson": _correlation(predicted, true),
        "spearman": _correlation(rankdata(predicted), rankdata(true)),
    }


def _correlation(one: Array, other: Array) -> float:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])
