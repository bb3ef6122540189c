"""Classification metrics: `evaluate.Metric` classes over scikit-learn, with no script from a hub.

Predictions and references are label names. Averages follow scikit-learn: over the labels that
occur in either, a label that is never predicted counting as zero.
"""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
from sklearn import metrics as sk

from pipeline.tasks.base import metric_name


class _LabelMetric(evaluate.Metric):  # type: ignore[misc]
    """A metric of predicted against true label names."""

    description = ""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.description,
            citation="",
            inputs_description="predictions, references: label names, one a row; labels: all names",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )


class Accuracy(_LabelMetric):
    """Share of rows whose label was predicted."""

    description = "Share of rows whose label was predicted."

    def _compute(self, predictions: Any, references: Any, **_: Any) -> dict[str, float]:
        return {"accuracy": float(sk.accuracy_score(references, predictions))}


class _AveragedMetric(_LabelMetric):
    """A metric a label, with its mean over labels (macro) and over rows (weighted)."""

    position: int  # in what precision_recall_fscore_support returns
    key: str

    def _compute(
        self, predictions: Any, references: Any, labels: Sequence[str]
    ) -> dict[str, float]:
        def scores(**kwargs: Any) -> Any:
            return sk.precision_recall_fscore_support(
                references, predictions, zero_division=0.0, **kwargs
            )[self.position]

        each = scores(labels=list(labels))
        return {
            f"{self.key}_macro": float(scores(average="macro")),
            f"{self.key}_weighted": float(scores(average="weighted")),
            **{f"{self.key}/{metric_name(n)}": float(v) for n, v in zip(labels, each, strict=True)},
        }


class Precision(_AveragedMetric):
    """Share of the rows predicted as a label that have it."""

    description, position, key = (
        "Of the rows predicted as a label, the share that have it.",
        0,
        "precision",
    )


class Recall(_AveragedMetric):
    """Share of the rows with a label that were predicted so."""

    description, position, key = "Of the rows with a label, the share predicted so.", 1, "recall"


class F1(_AveragedMetric):
    """Harmonic mean of precision and recall."""

    description, position, key = "Harmonic mean of precision and recall.", 2, "f1"


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
    scores: dict[str, float] = {}
    for metric in (Accuracy, Precision, Recall, F1):
        scores |= metric(keep_in_memory=True).compute(
            predictions=list(predictions), references=list(references), labels=list(labels)
        )
    return scores
