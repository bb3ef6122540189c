"""Classification metrics: `evaluate.Metric` classes over scikit-learn, with no script from a hub.

The classes take labels as positions in the list of all names: names would be written to evaluate's
table and compared as strings, which is slow. Averages follow scikit-learn: over the labels that
occur in either, one that is never predicted counting as zero.
"""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
from sklearn import metrics as sk

from pipeline.evaluation.names import metric_name

Positions = np.ndarray[Any, Any]


class _LabelMetric(evaluate.Metric):  # type: ignore[misc]
    """Metrics of predicted against true labels."""

    description = ""
    kinds: Sequence[str]  # of what `_scores` returns

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.description,
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
        scores = _scores(predictions, references, labels)
        return {name: value for kind in self.kinds for name, value in scores[kind].items()}


class Accuracy(_LabelMetric):
    """Share of rows whose label was predicted."""

    description, kinds = "Share of rows whose label was predicted.", ("accuracy",)


class Precision(_LabelMetric):
    """Share of the rows predicted as a label that have it."""

    description = "Of the rows predicted as a label, the share that have it."
    kinds = ("precision",)


class Recall(_LabelMetric):
    """Share of the rows with a label that were predicted so."""

    description, kinds = "Of the rows with a label, the share predicted so.", ("recall",)


class F1(_LabelMetric):
    """Harmonic mean of precision and recall."""

    description, kinds = "Harmonic mean of precision and recall.", ("f1",)


class EveryMetric(_LabelMetric):
    """All of them from one pass over the rows, as each evaluation wants them."""

    description = "Accuracy, precision, recall and F1."
    kinds = ("accuracy", "precision", "recall", "f1")


def _scores(
    predictions: Positions, references: Positions, labels: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return the metrics by kind: one a label, their means over labels and over rows (weighted)."""
    present = np.union1d(references, predictions)
    # One call for everything: scikit-learn's own averages are these, over the labels present.
    *found, rows = sk.precision_recall_fscore_support(
        references, predictions, labels=present, zero_division=0.0
    )
    scores = {"accuracy": {"accuracy": float(np.mean(predictions == references))}}
    for kind, values in zip(("precision", "recall", "f1"), found, strict=True):
        each = np.zeros(len(labels))
        each[present] = values
        scores[kind] = {
            f"{kind}_macro": float(np.average(values)),
            f"{kind}_weighted": float(np.average(values, weights=rows)),
            **{f"{kind}/{metric_name(n)}": float(v) for n, v in zip(labels, each, strict=True)},
        }
    return scores


def classification_scores(
    predictions: Sequence[str], references: Sequence[str], labels: Sequence[str]
) -> dict[str, float]:
    """Score predictions by every classification metric.

    Args:
        predictions: label names, one a row.
        references: the true names, as many.
        labels: all names, in the order of the model's outputs.

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
