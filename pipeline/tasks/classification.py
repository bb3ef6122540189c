"""Sequence classification: one label for each text, by any encoder or decoder checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.tasks.base import Direction, Examples

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

    from pipeline.data import Rows
    from pipeline.models import Checkpoint


class Classification:
    """Cross-entropy over the label names; scored on decoded labels."""

    metrics: Mapping[str, Direction] = {
        "loss": "minimize",
        "accuracy": "maximize",
        "f1_macro": "maximize",
        "f1_weighted": "maximize",
        "f1/": "maximize",
        "precision_macro": "maximize",
        "precision_weighted": "maximize",
        "precision/": "maximize",
        "recall_macro": "maximize",
        "recall_weighted": "maximize",
        "recall/": "maximize",
    }

    def encode(
        self,
        rows: Rows,
        labels: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
    ) -> Examples:
        """Turn texts into unpadded token ids, at most ``max_length``, and labels into positions."""
        from datasets import Dataset

        encoded = tokenizer(list(rows.texts), truncation=True, max_length=max_length)
        position = {label: i for i, label in enumerate(labels)}
        columns = {
            "input_ids": encoded["input_ids"],
            "attention_mask": encoded["attention_mask"],
            "labels": [position[label] for label in rows.labels],
            "row": list(range(len(rows))),
        }
        truncated = _count_cut(encoded, rows.texts, tokenizer, max_length)
        return Examples(rows, Dataset.from_dict(columns), truncated)

    def load_model(self, checkpoint: Checkpoint, labels: Sequence[str]) -> PreTrainedModel:
        """Load the checkpoint with a classification head whose outputs are named by the labels."""
        from transformers import AutoModelForSequenceClassification

        return checkpoint.load(
            AutoModelForSequenceClassification,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)},
            problem_type="single_label_classification",
        )

    def score(
        self, examples: Examples, outputs: np.ndarray[Any, Any], labels: Sequence[str]
    ) -> dict[str, float]:
        """Score logits of shape [rows, labels] by their largest entry."""
        from pipeline.evaluation.metrics import classification_scores

        return classification_scores(_decode(outputs, labels), examples.rows.labels, labels)

    def baseline(self, train: Rows, rows: Rows, labels: Sequence[str]) -> dict[str, float]:
        """Score the answer that is always training's most frequent label."""
        from pipeline.evaluation.metrics import classification_scores

        counts = train.label_counts()
        majority = max(counts, key=lambda label: counts[label])
        return classification_scores([majority] * len(rows), rows.labels, labels)

    def predictions(
        self, examples: Examples, outputs: np.ndarray[Any, Any], labels: Sequence[str]
    ) -> dict[str, list[Any]]:
        """Return id, text, label, prediction and the probability of the prediction."""
        from scipy.special import softmax

        rows, predicted = examples.rows, _decode(outputs, labels)
        probability = softmax(outputs.astype("float64"), axis=-1).max(axis=-1)
        return {
            "id": list(rows.ids),
            "text": list(rows.texts),
            "label": list(rows.labels),
            "prediction": predicted,
            "probability": [round(float(p), 6) for p in probability],
            "correct": [a == b for a, b in zip(predicted, rows.labels, strict=True)],
        }

    def figures(
        self, examples: Examples, outputs: np.ndarray[Any, Any], labels: Sequence[str]
    ) -> dict[str, Figure]:
        """Return the confusion matrix."""
        from pipeline.evaluation.figures import confusion_matrix_figure

        figure = confusion_matrix_figure(_decode(outputs, labels), examples.rows.labels, labels)
        return {"confusion_matrix.png": figure}


def _count_cut(
    encoded: BatchEncoding,
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> int:
    """Count the texts that lost tokens; a fast tokenizer kept those, others tokenize again."""
    if encoded.encodings is not None:
        return sum(bool(encoding.overflowing) for encoding in encoded.encodings)
    lengths = tokenizer(list(texts), return_length=True, verbose=False)["length"]
    return sum(length > max_length for length in lengths)


def _decode(logits: np.ndarray[Any, Any], labels: Sequence[str]) -> list[str]:
    """Return the label names of logits of shape [rows, labels]."""
    return [labels[i] for i in logits.argmax(axis=-1)]


TASK = Classification()
