"""Classification metrics: an `evaluate.Metric` over scikit-learn, with no script from a hub.

It takes labels as positions in the list of all names: names would be written to evaluate's
table and compared as strings, which is slow. Averages follow scikit-learn: over the labels that
occur in either, one that is never predicted counting as zero.

Predictions and references are as many, one a row; ``labels`` are all names, in the order of the
model's outputs.
"""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
from sklearn import metrics as sk

from pipeline.evaluation.names import metric_name

Positions = np.ndarray[Any, Any]


class EveryMetric(evaluate.Metric):  # type: ignore[misc]
    """Accuracy, precision, recall and F1 from one pass over the rows."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Accuracy, precision, recall and F1.",
            citation="",
            inputs_description=(
                "predictions, references: positions in labels, one a row; labels: all names"
            ),
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
            format="numpy",
        )

    def _compute(
        self, predictions: Positions, references: Positions, labels: Sequence[str]
    ) -> dict[str, float]:
        return _scores(predictions, references, labels)


def _scores(
    predictions: Positions, references: Positions, labels: Sequence[str]
) -> dict[str, float]:
    """Return every metric by name; rows are positions, or rows of 0 and 1 with a column a label."""
    equal = predictions == references
    if references.ndim == 1:
        present = np.union1d(references, predictions)
    else:
        equal = equal.all(axis=1)
        present = np.flatnonzero((references | predictions).any(axis=0))
    # One call for everything: scikit-learn's own averages are these, over the labels present.
    *found, rows = sk.precision_recall_fscore_support(
        references, predictions, labels=np.arange(len(labels)), zero_division=0.0
    )
    scores = {"accuracy": float(np.mean(equal))}
    for kind, values in zip(("precision", "recall", "f1"), found, strict=True):
        scores |= {
            f"{kind}_macro": _average(values[present], np.ones(len(present))),
            f"{kind}_weighted": _average(values[present], rows[present]),
            **{f"{kind}/{metric_name(n)}": float(v) for n, v in zip(labels, values, strict=True)},
        }
    return scores


def _average(values: Positions, weights: Positions) -> float:
    # Rows may have no label at all, and then nothing to weigh by.
    return float(np.average(values, weights=weights)) if weights.any() else 0.0


def classification_scores(
    predictions: Sequence[str], references: Sequence[str], labels: Sequence[str]
) -> dict[str, float]:
    """Score predictions by every classification metric.

    Returns:
        ``accuracy``, ``f1_macro``, ``f1/<label>`` …, each between 0 and 1.
    """
    position = {label: i for i, label in enumerate(labels)}
    predicted = np.array([position[label] for label in predictions])
    true = np.array([position[label] for label in references])
    scores: dict[str, float] = EveryMetric(keep_in_memory=True).compute(
        predictions=predicted, references=true, labels=list(labels)
    )
    return scores


def multilabel_scores(
    predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]], labels: Sequence[str]
) -> dict[str, float]:
    """Score predictions of any number of labels a row.

    Returns:
        The same as `classification_scores`, ``accuracy`` being the share of rows all of whose
        labels are right; ``f1_micro`` of all rows' labels together and ``hamming_loss``, the share
        of wrong decisions among all of them, one a row and label. Each between 0 and 1.
    """
    predicted, true = _indicators(predictions, labels), _indicators(references, labels)
    named = int(predicted.sum() + true.sum())
    return {
        **_scores(predicted, true, labels),
        "f1_micro": 2 * int((predicted & true).sum()) / named if named else 0.0,
        "hamming_loss": float(np.mean(predicted != true)),
    }


def _indicators(rows: Sequence[Sequence[str]], labels: Sequence[str]) -> Positions:
    """Return 1 where a row has the column's label, else 0."""
    position = {label: i for i, label in enumerate(labels)}
    found = np.zeros((len(rows), len(labels)), dtype=np.int64)
    for row, names in zip(found, rows, strict=True):
        row[[position[name] for name in names]] = 1
    return found
