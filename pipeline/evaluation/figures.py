"""Pictures of predictions."""

from collections.abc import Sequence

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
