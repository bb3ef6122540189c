"""Pictures of predictions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix


def confusion_matrix_figure(
    predictions: Sequence[str], references: Sequence[str], labels: Sequence[str]
) -> Figure:
    """Draw rows by true label (down) and predicted label (across), shaded by share of the true."""
    counts = confusion_matrix(references, predictions, labels=list(labels))
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    size = min(3.5 + 0.55 * len(labels), 24.0)  # inches
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    ticks = range(len(labels))
    axes.set_xticks(ticks, labels, rotation=45, ha="right")
    axes.set_yticks(ticks, labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(labels) <= 30:
        for i in ticks:
            for j in ticks:
                colour = "white" if shares[i, j] > 0.5 else "black"
                axes.text(j, i, str(counts[i, j]), ha="center", va="center", color=colour)
    return figure


def scatter_figure(
    predicted: np.ndarray[Any, Any], true: np.ndarray[Any, Any], columns: Sequence[str]
) -> Figure:
    """Draw each row's true number (across) and predicted one (up), and the line of equals.

    Both are of shape [rows, columns]; each column has a picture.
    """
    figure = Figure(figsize=(4.0 * len(columns), 4.0), layout="constrained")
    for i, (axes, column) in enumerate(
        zip(figure.subplots(1, len(columns), squeeze=False)[0], columns, strict=True)
    ):
        both = np.concatenate([true[:, i], predicted[:, i]])
        axes.axline((both.min(), both.min()), slope=1.0, color="grey", linewidth=0.8)
        axes.scatter(true[:, i], predicted[:, i], s=8, alpha=0.5, linewidths=0)
        axes.set_xlabel(f"true {column}")
        axes.set_ylabel("predicted")
    return figure
