"""The learning curve and the label issues, as sections of the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.analysis.report.drawing import BLUE, VERMILION, captioned, embed, new_figure
from pipeline.common.html import note
from pipeline.common.tables import Table, render

SHOWN_LABELS = 30  # the likeliest issues


def learning_curve_section(curve: Mapping[str, Any]) -> str:
    """Return a `LearningCurve` as it was logged: its points, the power law, and what it says."""
    rows, most = np.array(curve["rows"]), curve["most"]
    figure = new_figure(6.4, 3.0)
    axes = figure.subplots()
    axes.plot(rows, curve["scores"], "o", color=BLUE, ms=4, alpha=0.7)
    along = np.geomspace(rows.min(), 2 * most, 100)
    fitted = curve["limit"] - curve["factor"] * along ** -curve["exponent"]
    known = along <= most
    axes.plot(along[known], fitted[known], color=VERMILION)
    axes.plot(along[~known], fitted[~known], color=VERMILION, ls="--")
    axes.set_xscale("log")
    axes.set_xlabel("training rows")
    axes.set_ylabel(curve["metric"])
    low, high = curve["interval"]
    caption = (
        f"Twice the data ({2 * most:,} rows) is expected to bring {curve['doubled']:+.4f} ± "
        f"{curve['error']:.4f} {curve['metric']} (95 %: {low:+.4f} to {high:+.4f}). A dot is a "
        "run; the dashed part is extrapolated."
    )
    alt = "Score against training rows, with a fitted power law"
    return captioned([embed(figure, "learning-curve", alt)], caption)


def label_section(issues: Mapping[str, Any]) -> str:
    """Return a `LabelReport` as it was logged: the estimate, and the likeliest issues."""
    said = (
        f"About {issues['estimate']} of {issues['judged']} labels look wrong to models that were "
        "not trained on the row (confident learning). Models make mistakes too: review these rows "
        f"before you change them. label_errors.json lists all {len(issues['data'])} rows for which "
        "another label is more likely."
    )
    return note(said) + render(Table(issues["columns"], issues["data"][:SHOWN_LABELS]), "html")
