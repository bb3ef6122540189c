"""Figures of the page: their look, and their SVG."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.analysis.report.view import View, goal, short

# Okabe and Ito's colours, which can be told apart with every kind of colour blindness.
BLUE, ORANGE, VERMILION, SKY, GREY = "#0072b2", "#e69f00", "#d55e00", "#56b4e9", "#767676"

Tips = Mapping[str, Sequence[str]]  # texts of an artist's parts, by its gid


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def legend(axes: Axes) -> None:
    """Add a legend, where anything has a label."""
    # Next to the points, so that it hides none.
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=8)


def axis_label(view: View, n: int) -> str:
    """Return the axis label of the objective with this number."""
    name = view.about.objectives[n]
    unit = " (s)" if name.partition("@")[0].endswith("seconds") else ""
    return f"{short(name)}{unit}\n{goal(view.study.directions[n])}"


def captioned(charts: Iterable[str], caption: str) -> str:
    """Return charts with their common caption."""
    return f"<figure>{''.join(charts)}<figcaption>{escape(caption)}</figcaption></figure>"


def embed(figure: Figure, name: str, alt: str, tips: Tips | None = None) -> str:
    """Return a figure as an SVG element, without what a page does not need.

    The tips are shown over the parts of an artist, a line or its dots, by the artist's ``gid``.
    """
    text = io.StringIO()
    # The salt keeps the ids of two charts on a page apart, and the same study's page the same.
    with rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that matplotlib's font lacks: the reader's has
        figure.savefig(text, format="svg", dpi=130)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]  # no XML head with its address
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for gid, texts in (tips or {}).items():
        svg = _with_tips(svg, gid, texts)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # the same in every chart, and never referred to
    svg = re.sub(r"\n\s*", "\n", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(alt)}" ', 1)


def _with_tips(svg: str, gid: str, texts: Sequence[str]) -> str:
    """Give the parts of an artist their texts; one that was rasterized has no parts."""
    before, mark, after = svg.partition(f'<g id="{gid}">')
    own, end, others = after.partition('<g id="')
    if len(texts) == 1 and "<image" not in own:
        return f"{before}{mark}<title>{escape(texts[0])}</title>{after}"
    kind = "use" if "<use " in own else "path"
    parts = re.split(rf"(<{kind} [^>]*)/>", own)  # every second one is a part's tag
    if len(parts) != 2 * len(texts) + 1:
        return svg
    for i, text in enumerate(texts):
        parts[2 * i + 1] += f"><title>{escape(text)}</title></{kind}>"
    return f"{before}{mark}{''.join(parts)}{end}{others}"


LOOK: Any = {
    "svg.fonttype": "none",  # text stays text: small, and found by a search in the page
    "text.parse_math": False,  # a dollar sign in a parameter is one
    "font.size": 8.5,
    "axes.labelsize": 9,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}
