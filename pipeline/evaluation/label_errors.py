"""Rows whose label is likely wrong, by confident learning.

Northcutt, Jiang and Chuang, 2021: Confident learning, estimating uncertainty in dataset labels
(Journal of Artificial Intelligence Research 70). cleanlab is the authors' implementation; its
licence is the AGPL, so these few lines stand here instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class LabelIssue:
    """A row whose given label is likely wrong."""

    position: int
    given: str
    suggested: str
    given_probability: float
    suggested_probability: float


@dataclass(frozen=True)
class LabelIssues:
    """The rows for which a model prefers another label, and how many it estimates to be wrong."""

    ranked: Sequence[LabelIssue]  # the most certain first
    estimate: int  # of the rows whose label is wrong


def confident_learning(
    probabilities: Array, labels: Sequence[str], names: Sequence[str]
) -> LabelIssues:
    """Rank the rows whose label is likely wrong, and estimate how many are.

    A model is confident in a label where its probability is at least the mean of that over the rows
    that were given the label. Counting the rows by given label and by the one that it is confident
    in, made to add up to what was given, estimates how many labels of each kind are wrong.

    Args:
        probabilities: of a model that was not trained on the row, of shape [rows, labels].
        labels: the given label of each row.
        names: the labels in the order of the columns.

    Returns:
        The rows ranked by how much the probability of the likeliest label exceeds that of the given
        one, where it does.
    """
    given = np.array([names.index(label) for label in labels])
    joint = _confident_joint(probabilities, given)
    rows = np.arange(len(given))
    suggested = probabilities.argmax(axis=1)
    own, other = probabilities[rows, given], probabilities[rows, suggested]
    ranked = [int(i) for i in np.argsort(own - other, kind="stable") if other[i] > own[i]]
    issues = [
        LabelIssue(i, names[given[i]], names[suggested[i]], float(own[i]), float(other[i]))
        for i in ranked
    ]
    return LabelIssues(issues, round(joint.sum() - np.trace(joint)))


def _confident_joint(probabilities: Array, given: Array) -> Array:
    """Estimate the rows of each given (down) and true label (across), as many as were given."""
    count = probabilities.shape[1]
    thresholds = np.full(count, np.inf)
    for label in np.unique(given):
        thresholds[label] = probabilities[given == label, label].mean()
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    sure = confident.max(axis=1) >= 0
    joint = np.zeros((count, count))
    np.add.at(joint, (given[sure], confident.argmax(axis=1)[sure]), 1)
    sums = joint.sum(axis=1, keepdims=True)
    totals = np.bincount(given, minlength=count)[:, None]
    found: Array = np.divide(joint * totals, sums, out=np.zeros_like(joint), where=sums > 0)
    return found
