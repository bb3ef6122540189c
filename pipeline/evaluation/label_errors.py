"""Rows whose label is likely wrong, by confident learning.

Northcutt, Jiang and Chuang, 2021: Confident learning, estimating uncertainty in dataset labels
(Journal of Artificial Intelligence Research 70). cleanlab is the authors' implementation; its
licence is the AGPL, so these few lines stand here instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Suspect:
    """A row whose given label is likely wrong."""

    position: int
    given: str
    suggested: str
    given_probability: float
    suggested_probability: float


def suspects(probabilities: Array, labels: Sequence[str], names: Sequence[str]) -> list[Suspect]:
    """Return the rows that most likely have another label than they were given.

    A model is confident in a label where its probability is at least the mean of that over the rows
    that were given the label. Counting the rows by given label and by the one that it is confident
    in estimates how many labels of each kind are wrong; at most so many are returned, those where
    the probability of the other label exceeds that of the given one most ("prune by noise rate").

    Args:
        probabilities: of a model that was not trained on the row, of shape [rows, labels].
        labels: the given label of each row.
        names: the labels in the order of the columns.

    Returns:
        The most certain first.
    """
    given = np.array([names.index(label) for label in labels])
    joint = _confident_joint(probabilities, given)
    found: dict[int, int] = {}  # row -> suggested label
    margins = probabilities - probabilities[np.arange(len(given)), given][:, None]
    for own, other in zip(*np.nonzero(joint), strict=True):
        rows = np.flatnonzero(given == own)
        most = rows[np.argsort(-margins[rows, other], kind="stable")][: ceil(joint[own, other])]
        for i in most.tolist() if own != other else ():
            if margins[i, other] > margins[i, found.get(i, own)]:
                found[i] = int(other)
    ranked = sorted(found, key=lambda i: (-margins[i, found[i]], i))
    return [
        Suspect(
            i,
            names[given[i]],
            names[found[i]],
            float(probabilities[i, given[i]]),
            float(probabilities[i, found[i]]),
        )
        for i in ranked
    ]


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
