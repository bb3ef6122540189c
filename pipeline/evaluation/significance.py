"""Whether one classifier is better than another, on the same rows: errors, intervals and tests.

Two things make a difference look larger than it is: the rows that happen to be in the test split,
and the seeds that happened to be drawn. Rows are resampled in pairs (Efron and Tibshirani, 1993: An
introduction to the bootstrap; Koehn, 2004, for language models), seeds are counted as they vary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.evaluation.names import metric_name

Array = np.ndarray[Any, Any]

RESAMPLES = 2000
ALPHA = 0.01  # of a hundred searches that found nothing, one is called better
_SEED = 0
_CELLS = 2**23  # resamples times rows in memory at once


@dataclass(frozen=True)
class Difference:
    """How much better one side is than the other."""

    value: float  # of the means; above 0 the first side is better
    error: float  # standard error, from rows and seeds
    p: float  # of a difference as large where there is none
    interval: tuple[float, float] | None = None  # 95 %, of the rows alone, seeds as they were
    mcnemar_p: float | None = None  # of the votes of each side's seeds

    @property
    def is_clear(self) -> bool:
        """Whether chance hardly explains it."""
        return self.p < ALPHA


def compare(
    first: Array, second: Array, truth: Array, metric: str, labels: Sequence[str]
) -> Difference:
    """Compare the predictions of two sides, each on one seed or several.

    Args:
        first: positions of labels, of shape [seeds, rows].
        second: likewise; seeds may be others, and of another number.
        truth: the true ones, of shape [rows].
        metric: as `scores_of` has it.
        labels: all names, in the order of the positions.
    """
    every = np.concatenate([first, second])
    codes = truth * len(labels) + every
    whole = scores_of(_confusions(codes, np.ones((1, len(truth))), len(labels)), metric, labels)[0]
    own, other = whole[: len(first)], whole[len(first) :]
    value = float(own.mean() - other.mean())

    resampled = _resampled(codes, RESAMPLES, metric, labels)
    drawn = resampled[:, : len(first)].mean(axis=1) - resampled[:, len(first) :].mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    error, p = _test(value, float(drawn.var(ddof=1)), own, other)
    votes = (_votes(side, len(labels)) == truth for side in (first, second))
    return Difference(value, error, p, (float(low), float(high)), mcnemar(*votes))


def compare_scores(first: Array, second: Array) -> Difference:
    """Compare two sides by their scores on several seeds alone (Welch's test)."""
    value = float(first.mean() - second.mean())
    return Difference(value, *_test(value, 0.0, first, second))


def _test(value: float, of_rows: float, own: Array, other: Array) -> tuple[float, float]:
    """Return standard error and p of a difference; degrees of freedom as Welch has them.

    The variance of the rows, for which there are many resamples, has endless degrees of freedom.
    """
    from scipy.stats import t

    of_seeds = [side.var(ddof=1) / len(side) if len(side) > 1 else 0.0 for side in (own, other)]
    variance = of_rows + sum(of_seeds)
    if variance == 0:
        return 0.0, 1.0 if value == 0 else 0.0 if of_rows else math.nan
    spread = sum(
        part**2 / (len(side) - 1)
        for part, side in zip(of_seeds, (own, other), strict=True)
        if len(side) > 1
    )
    freedom = variance**2 / spread if spread else math.inf
    error = math.sqrt(variance)
    return error, float(2 * t.sf(abs(value) / error, freedom))


def mcnemar(first: Array, second: Array) -> float:
    """Return the exact p of McNemar's test (1947) for two sides being right equally often.

    Each side says of each row whether it was right.
    """
    from scipy.stats import binomtest

    better = int((first & ~second).sum())
    worse = int((second & ~first).sum())
    if better + worse == 0:
        return 1.0
    return float(binomtest(better, better + worse).pvalue)


def interval(
    predicted: Array, truth: Array, metric: str, labels: Sequence[str]
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of one side's metric, as `scores_of` has it.

    Predicted and true labels are positions in all names, of shape [rows].
    """
    low, high = np.quantile(_of_one(predicted, truth, metric, labels), (0.025, 0.975))
    return float(low), float(high)


def standard_error(predicted: Array, truth: Array, metric: str, labels: Sequence[str]) -> float:
    """Return the standard error that the rows give one side's metric; arguments of `interval`."""
    return float(_of_one(predicted, truth, metric, labels).std(ddof=1))


def _of_one(predicted: Array, truth: Array, metric: str, labels: Sequence[str]) -> Array:
    return _resampled((truth * len(labels) + predicted)[None], RESAMPLES // 4, metric, labels)


def scores_of(confusions: Array, metric: str, labels: Sequence[str]) -> Array:
    """Return a metric of confusion matrices, as `metrics.classification_scores` has it.

    Args:
        confusions: counts of shape […, true label, predicted label].
        metric: ``accuracy``, ``f1_macro``, ``recall_weighted``, ``precision/<label>`` …
        labels: all names, in the order of both axes.

    Raises:
        KeyError: for another metric.
    """
    right = np.diagonal(confusions, axis1=-2, axis2=-1)
    true, predicted = confusions.sum(axis=-1), confusions.sum(axis=-2)
    if metric == "accuracy":
        accuracy: Array = right.sum(axis=-1) / true.sum(axis=-1)
        return accuracy
    kind, _, rest = metric.partition("/" if "/" in metric else "_")
    parts = {"f1": (2 * right, true + predicted), "recall": (right, true)}
    parts["precision"] = right, predicted
    each = _ratio(*parts[kind])
    if "/" in metric:
        one: Array = each[..., [metric_name(label) for label in labels].index(rest)]
        return one
    weights = {"macro": ((true + predicted) > 0).astype(float), "weighted": true}[rest]
    return _ratio((each * weights).sum(axis=-1), weights.sum(axis=-1))


def can_resample(metric: str) -> bool:
    """Whether `scores_of` knows a metric."""
    kind, _, rest = metric.partition("/" if "/" in metric else "_")
    is_average = rest in ("macro", "weighted") or "/" in metric
    return metric == "accuracy" or (kind in ("f1", "recall", "precision") and is_average)


def _resampled(codes: Array, times: int, metric: str, labels: Sequence[str]) -> Array:
    """Return the metric on rows that are drawn again and again, of shape [times, sides]."""
    chance, rows = np.random.default_rng(_SEED), codes.shape[1]
    at_once = max(1, _CELLS // rows)
    parts = []
    for start in range(0, times, at_once):
        drawn = chance.integers(0, rows, (min(at_once, times - start), rows))
        weights = np.stack([np.bincount(some, minlength=rows) for some in drawn])
        parts.append(scores_of(_confusions(codes, weights, len(labels)), metric, labels))
    return np.concatenate(parts)


def _ratio(part: Array, whole: Array) -> Array:
    found: Array = np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0)
    return found


def _confusions(codes: Array, weights: Array, count: int) -> Array:
    """Return confusion matrices of shape [weightings, sides, labels, labels]."""
    found = np.empty((len(weights), len(codes), count, count))
    for side, code in enumerate(codes):
        cells = np.zeros((len(code), count * count), np.float32)
        cells[np.arange(len(code)), code] = 1
        found[:, side] = (weights.astype(np.float32) @ cells).reshape(-1, count, count)
    return found


def _votes(predicted: Array, count: int) -> Array:
    """Return what most seeds predict for each row; of equally many the first by position."""
    tallies = np.stack([(predicted == label).sum(axis=0) for label in range(count)])
    votes: Array = tallies.argmax(axis=0)
    return votes
