"""The charts of scores: by trial, one objective against another, and during training.

Optuna's matplotlib charts show neither pruned, failed and paused trials nor the budget in epochs,
and draw every trial as vectors: 300 trials with ten reports each take 0.9 MB.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import accumulate, combinations
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial

from pipeline.analysis.report.drawing import (
    BLUE,
    GREY,
    ORANGE,
    SKY,
    VERMILION,
    Tips,
    axis_label,
    captioned,
    embed,
    legend,
    new_figure,
)
from pipeline.analysis.report.view import View
from pipeline.common.errors import listing
from pipeline.common.html import note
from pipeline.search.study.trials import pareto_front, sign_of, state_of, violation

CURVES, CURVE_POINTS = 60, 60  # the most that are drawn

Curve = tuple[list[float], list[float]]  # budgets, scores


def history(view: View) -> str:
    """Return a chart of each trial's score, for each objective."""
    if not view.complete:
        return note("No trial is complete.")
    parts = []
    for n, name in enumerate(view.about.objectives):
        figure = new_figure(7.2, 2.9)
        axes = figure.subplots()
        tips = _draw_history(view, axes, n)
        axes.set_xlabel("trial (number)")
        axes.set_ylabel(axis_label(view, n))
        parts.append(embed(figure, f"history-{n}", f"{name} of each trial, in their order", tips))
    caption = (
        "Score by trial, and the best so far. Pruned trials are drawn at the last score they "
        "reported, or at the lower edge if they reported another metric; failed trials are always "
        "at the lower edge."
    )
    return captioned(parts, caption)


def _draw_history(view: View, axes: Axes, n: int) -> Tips:
    """Draw the marks of all trials that are over, and return what they say."""
    sign = sign_of(view.study.directions[n])
    kept = [t for t in view.complete if not violation(t)]
    broken = [t for t in view.complete if violation(t)]
    best = accumulate((sign * t.values[n] for t in kept), max)
    numbers = [t.number for t in kept]
    so_far = [sign * value for value in best]
    axes.step(numbers, so_far, where="post", color=VERMILION, label="best so far", lw=1.5)
    scores = [t.values[n] for t in kept]
    dots: dict[str, Any] = {"ls": "", "rasterized": view.raster}
    axes.plot(numbers, scores, "o", ms=4, color=BLUE, label="complete", gid="complete", **dots)
    if broken:
        places = [t.number for t in broken], [t.values[n] for t in broken]
        axes.plot(*places, "D", ms=4, mfc="none", mec=BLUE, label="violates a constraint", **dots)
    same = view.about.reported == view.about.objectives[n]
    ended = (t for t in view.over if state_of(t) == "pruned")
    pruned = {t.number: next(reversed(_reports(t).values()), None) for t in ended}
    known = {number: value for number, value in pruned.items() if same and value is not None}
    marks: dict[str, Any] = {"marker": "v", "ms": 5, "mfc": "none", "mec": ORANGE, **dots}
    if known:
        axes.plot(list(known), list(known.values()), label="pruned", gid="pruned", **marks)
    edge = axes.get_xaxis_transform()
    others = [number for number in pruned if number not in known]
    label = None if known else "pruned"
    if others:
        axes.plot(others, [0.03] * len(others), transform=edge, label=label, **marks)
    failed = [t.number for t in view.over if state_of(t) == "failed"]
    if failed:
        places = failed, [0.03] * len(failed)
        axes.plot(*places, "x", ms=5, color=GREY, transform=edge, label="failed", **dots)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(axes)
    marked = {"complete": kept, "pruned": [t for t in view.over if t.number in known]}
    return {gid: [view.tip(t) for t in trials] for gid, trials in marked.items()}


def pareto(view: View) -> str:
    """Return a chart of the Pareto front; nothing where there is one objective."""
    names = view.about.objectives
    if len(names) < 2:
        return ""
    if not view.complete:
        return note("No trial is complete.")
    front = sorted(pareto_front(view.study), key=lambda t: t.values)
    pairs = list(combinations(range(len(names)), 2))[:3]
    figure = new_figure(4.0 * len(pairs) + 0.8, 3.4)
    for axes, (x, y) in zip(figure.subplots(1, len(pairs), squeeze=False)[0], pairs, strict=True):
        for trials, color, ms, label in (
            (view.complete, SKY, 4, "complete"),
            (front, VERMILION, 6, "front"),
        ):
            places = [t.values[x] for t in trials], [t.values[y] for t in trials]
            look: dict[str, Any] = {"color": color, "ms": ms, "rasterized": view.raster}
            axes.plot(*places, "o", ls="", label=label, gid=f"{label} {x} {y}", **look)
        for trial in front[:12]:
            place = (trial.values[x], trial.values[y])
            axes.annotate(str(trial.number), place, (4, 4), textcoords="offset points", size=7)
        axes.set_xlabel(axis_label(view, x))
        axes.set_ylabel(axis_label(view, y))
    legend(figure.axes[0])
    numbers = listing((str(t.number) for t in front), most=20)
    caption = (
        f"No other trial beats these in every objective: {numbers}. Each dot is a complete trial."
    )
    alt = "Complete trials by two objectives, the Pareto front highlighted"
    tips = {
        f"{label} {x} {y}": [view.tip(t) for t in trials]
        for label, trials in (("complete", view.complete), ("front", front))
        for x, y in pairs
    }
    return captioned([embed(figure, "pareto", alt, tips)], caption)


def intermediate_scores(view: View) -> str:
    """Return a chart of the scores that trials reported during training."""
    curves = {t.number: _curve(t, view.about.unit) for t in view.trials if _reports(t)}
    if not curves:
        return note("No trial reported an intermediate score.")
    shown = _thinned(curves, view.best)
    figure = new_figure(7.2, 3.4)
    axes = figure.subplots()
    for number, (budgets, scores) in shown.items():
        if number != view.best:
            look: dict[str, Any] = {"color": SKY, "lw": 0.9, "alpha": 0.7, "marker": ".", "ms": 3}
            axes.plot(budgets, scores, gid=f"trial {number}", **look)
    _mark_ends(view, axes, shown)
    if view.best in shown:
        best: dict[str, Any] = {"color": VERMILION, "lw": 2.0, "label": f"best: trial {view.best}"}
        axes.plot(*shown[view.best], marker=".", ms=4, gid=f"trial {view.best}", **best)
    for rung in view.about.rungs(max(max(budgets) for budgets, _ in shown.values())):
        axes.axvline(rung, color=GREY, lw=0.8, ls=":", zorder=0)
    axes.set_xlabel(f"budget ({view.about.unit_name})")
    axes.set_ylabel(view.about.reported)
    legend(axes)
    few = f" Shown are {len(shown)} of {len(curves)} trials." if len(shown) < len(curves) else ""
    caption = (
        "The scores that trials reported during training: each is the trial's score if it ended "
        "there. Triangles mark pruned trials, squares paused ones; dotted lines are the rungs at "
        f"which trials pause.{few}"
    )
    alt = f"{view.about.reported} of each trial against its budget"
    tips = {f"trial {t.number}": [view.tip(t)] for t in view.trials if t.number in shown}
    return captioned([embed(figure, "curves", alt, tips)], caption)


def _reports(trial: FrozenTrial) -> dict[int, float]:
    return {s: v for s, v in sorted(trial.intermediate_values.items()) if math.isfinite(v)}


def _curve(trial: FrozenTrial, unit: int) -> Curve:
    reports = list(_reports(trial).items())
    every = -(-len(reports) // CURVE_POINTS)
    kept = reports[::-every][::-1]  # the last one always
    return [step / unit for step, _ in kept], [value for _, value in kept]


def _thinned(curves: Mapping[int, Curve], best: int | None) -> dict[int, Curve]:
    """Keep the best trial's curve and an even selection of the others, as many as can be seen."""
    every = -(-len(curves) // CURVES)
    numbers = list(curves)[::every]
    return {n: curve for n, curve in curves.items() if n in numbers or n == best}


def _mark_ends(view: View, axes: Axes, shown: Mapping[int, Curve]) -> None:
    """Mark the ends of pruned and paused trials."""
    for state, (marker, colour) in {"pruned": ("v", ORANGE), "paused": ("s", GREY)}.items():
        numbers = [t.number for t in view.trials if t.number in shown and state_of(t) == state]
        ends = [(shown[n][0][-1], shown[n][1][-1]) for n in numbers]
        if ends:
            look: dict[str, Any] = {"mfc": "none", "mec": colour, "zorder": 3}
            axes.plot(*zip(*ends, strict=True), marker=marker, ls="", ms=5, label=state, **look)
