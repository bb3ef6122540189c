"""The charts of parameters: how important each is, and where its good values lie.

Optuna's parallel coordinates leave out trials without a conditional parameter; ours break the line.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.ticker import FuncFormatter, MaxNLocator
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from pipeline.analysis.report.drawing import (
    BLUE,
    GREY,
    VERMILION,
    axis_label,
    captioned,
    embed,
    new_figure,
)
from pipeline.analysis.report.view import IMPORTANCE_TRIALS, SHOWN_PARAMS, Scale, View, short
from pipeline.common.html import note
from pipeline.search.study.trials import all_params, violation

LINES = 200  # trials that are drawn at most


def importances(view: View) -> str:
    """Return a chart of parameter importances."""
    count = len(view.complete)
    if len(view.varying) < 2:
        found = f"only {view.varying[0].key} varies" if view.varying else "no parameter varies"
        return note(f"Not shown: {found}; importances need at least two varying parameters.")
    if not view.importances:
        return note(
            f"Not shown: only {count} complete trials; with fewer than {IMPORTANCE_TRIALS} "
            "importances are mostly noise."
        )
    shown = list(view.importances.items())[:SHOWN_PARAMS][::-1]
    figure = new_figure(6.4, 0.7 + 0.3 * len(shown))
    axes = figure.subplots()
    bars = axes.barh(range(len(shown)), [value for _, value in shown], color=BLUE)
    axes.set_yticks(range(len(shown)), [short(key) for key, _ in shown])
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.set_xlabel("importance (share of 1)")
    axes.margins(x=0.12)
    goal = "reaching the Pareto front" if len(view.about.objectives) > 1 else "reaching a top score"
    caption = (
        f"Importance of each parameter for {goal}, by PED-ANOVA over {count} complete trials: "
        "a rough guide if there are few."
    )
    return captioned([embed(figure, "importances", "Bars of parameter importances")], caption)


def parallel(view: View) -> str:
    """Return a chart with an axis for each parameter, and a line for each trial."""
    scales = view.charted
    if len(scales) < 2 or len(view.complete) < 2:
        return note("Not shown: this needs two varying parameters and two complete trials.")
    scores = [
        Scale(name, False, (), *_span(t.values[n] for t in view.complete))
        for n, name in enumerate(view.about.objectives)
    ]
    figure = new_figure(min(2.2 + 1.35 * len(scales + scores), 13.0), 3.4)
    axes = figure.subplots()
    # The best are drawn last, over the others.
    worst_first = view.ranked[:: -(-len(view.ranked) // LINES)][::-1]
    lines = [_line(t, scales, scores) for t in worst_first]
    norm = Normalize(scores[0].low, scores[0].high)
    # The dark end, which shows best on white, is the better one.
    cmap = "cividis_r" if view.study.directions[0] == StudyDirection.MAXIMIZE else "cividis"
    colours = LineCollection(lines, cmap=cmap, norm=norm, lw=1.2, alpha=0.75, gid="lines")
    colours.set_array([t.values[0] for t in worst_first])
    axes.add_collection(colours)
    best = _line(view.ranked[0], scales, scores)
    axes.plot(*zip(*best, strict=True), color=VERMILION, lw=2.2, gid="best")
    _draw_scales(axes, [*scales, *scores])
    bar = figure.colorbar(ScalarMappable(norm, cmap), ax=axes, pad=0.02)
    bar.set_label(axis_label(view, 0))
    few = len(worst_first) < len(view.ranked)
    thinned = f" Shown are {len(worst_first)} of {len(view.ranked)} trials." if few else ""
    caption = (
        "Each line is a complete trial and crosses each axis at its value; the best one is thick "
        "and red. A line breaks where the trial does not have the parameter."
        f"{view.left_out}{thinned}"
    )
    alt = "Complete trials as lines across the axes of their parameters and scores"
    tips = {"lines": [view.tip(t) for t in worst_first], "best": [view.tip(view.ranked[0])]}
    return captioned([embed(figure, "parallel", alt, tips)], caption)


def _span(values: Iterable[float]) -> tuple[float, float]:
    """Return the lowest and highest of some values, and never the same twice."""
    every = list(values)
    low, high = min(every), max(every)
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _line(
    trial: FrozenTrial, scales: Sequence[Scale], scores: Sequence[Scale]
) -> list[tuple[float, float]]:
    params = all_params(trial)
    shares = [s.share(params[s.key]) if s.key in params else math.nan for s in scales]
    shares += [s.share(value) for s, value in zip(scores, trial.values, strict=True)]
    return list(enumerate(shares))


def _draw_scales(axes: Axes, scales: Sequence[Scale]) -> None:
    for x, scale in enumerate(scales):
        axes.axvline(x, color=GREY, lw=0.8, zorder=0)
        marks = [(at / scale.high, short(text, 14)) for at, text in scale.ticks()]
        for height, text in marks or [(0.0, f"{scale.low:.3g}"), (1.0, f"{scale.high:.3g}")]:
            back = {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.6}
            axes.text(x + 0.03, height, text, size=7.5, va="center", bbox=back, zorder=5)
    names = [short(scale.key, 26) + (" (log)" if scale.log else "") for scale in scales]
    axes.set_xticks(range(len(scales)), names, rotation=20, ha="right", size=8)
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(scales) - 0.55)
    axes.set_ylim(-0.06, 1.06)
    axes.spines[:].set_visible(False)
    axes.grid(False)


def slices(view: View) -> str:
    """Return charts of the score against each parameter."""
    scales = view.charted
    if not scales or not view.complete:
        return note("Not shown: this needs a varying parameter and complete trials.")
    parts = []
    for n, name in enumerate(view.about.objectives[:3]):
        columns = min(len(scales), 3)
        rows = -(-len(scales) // columns)
        figure = new_figure(0.6 + 2.9 * columns, 2.5 * rows)
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
        tips: dict[str, list[str]] = {}
        for axes, scale in zip(panels.flat, scales, strict=False):
            tips |= _draw_slice(view, axes, scale, n)
        for axes in panels.flat[len(scales) :]:
            axes.set_visible(False)
        for axes in panels[:, 0]:
            axes.set_ylabel(axis_label(view, n))
        parts.append(
            embed(figure, f"slices-{n}", f"{name} against each parameter that varies", tips)
        )
    caption = (
        "Score against each varying parameter. A dot is a complete trial; the best one is red, "
        f"hollow ones violate a constraint.{view.left_out}"
    )
    return captioned(parts, caption)


def _draw_slice(view: View, axes: Axes, scale: Scale, n: int) -> dict[str, list[str]]:
    """Draw the scores against a parameter, and return what the dots say."""
    tips = {}
    having = [t for t in view.complete if scale.key in all_params(t)]
    for is_broken, fill in ((False, BLUE), (True, "none")):
        some = [t for t in having if bool(violation(t)) == is_broken]
        across = [scale.position(all_params(t)[scale.key]) for t in some]
        places = across, [t.values[n] for t in some]
        look: dict[str, Any] = {"mfc": fill, "mec": BLUE, "alpha": 0.7, "rasterized": view.raster}
        gid = f"{scale.key} {fill}"
        axes.plot(*places, "o", ls="", ms=4, gid=gid, **look)
        tips[gid] = [view.tip(t, [scale.key]) for t in some]
    for trial in having:
        if trial.number == view.best:
            place = scale.position(all_params(trial)[scale.key])
            gid = f"{scale.key} best"
            axes.plot(place, trial.values[n], "o", color=VERMILION, gid=gid)
            tips[gid] = [view.tip(trial, [scale.key])]
    axes.set_xlabel(short(scale.key))
    if scale.log:
        axes.set_xscale("log")
        axes.set_xlim(scale.low / 1.3, scale.high * 1.3)
        _few_log_ticks(axes, scale)
    elif scale.choices:
        ticks = scale.ticks()
        long = sum(len(text) for _, text in ticks) > 24
        turned: Any = {"rotation": 30, "ha": "right"} if long else {}
        axes.set_xticks([at for at, _ in ticks], [text for _, text in ticks], **turned)
        axes.set_xlim(-0.5, len(scale.choices) - 0.5)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    return tips


def _few_log_ticks(axes: Axes, scale: Scale) -> None:
    """Label a log axis with at most five powers of ten, or with its ends in between."""
    low, high = math.log10(scale.low), math.log10(scale.high)
    powers = range(math.ceil(low - 0.05), math.floor(high + 0.05) + 1)
    every = -(-len(powers) // 5) or 1
    ticks = [10.0**p for p in powers[::every]] if len(powers) > 1 else [scale.low, scale.high]
    axes.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
