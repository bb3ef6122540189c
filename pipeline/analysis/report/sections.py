"""The files logged with a study, as sections of its page; the data check also as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.analysis.data_check import DataReport
from pipeline.analysis.report.drawing import BLUE, VERMILION, captioned, embed, new_figure
from pipeline.common.html import note, page
from pipeline.common.tables import Table, render

SHOWN_ROWS = 5  # groups of a finding whose ids are shown
SHOWN_LABELS = 30  # the likeliest issues


def winner_section(report: Mapping[str, Any]) -> str:
    """Return a `WinnerReport` as it was logged: the winner's scores, then each comparison."""
    said = (
        f"Trial {report['trial']} on {report['seeds']} fresh seeds: {report['metric']} "
        f"{report['mean']:.4f} ± {report['spread']:.4f}. The search saw "
        f"{report['search_score']:.4f}, fresh seeds {report['validation_mean']:.4f} on the same "
        f"validation rows: a selection gap of {report['selection_gap']:+.4f}. "
        f"{report['test_reads']} runs have read the test split so far."
    )
    rows = [
        {
            "verdict": one["words"],
            "mean": one["mean"],
            "± seeds": one["spread"],
            "p": one["p"],
            "McNemar's p": one["mcnemar_p"],
            "95 % of rows": "{:+.4f} to {:+.4f}".format(*one["interval"])
            if one["interval"]
            else "",
        }
        for one in report["against"]
    ]
    return note(said) + render(Table.of(rows), "html")


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


def check_page(report: DataReport, title: str) -> str:
    """Return a data report as a page with the data's name as its title."""
    return page("data", title, note(report.summary) + data_section(report.as_tree()))


def data_section(report: Mapping[str, Any]) -> str:
    """Return the findings and tables of a report as it was logged."""
    tables = (report.get(name, []) for name in ("labels", "tokens", "baselines"))
    shown = (render(Table.of(table), "html") for table in tables)
    return "".join([_findings(report.get("findings", [])), *shown])


def cost_section(costs: Mapping[str, Any]) -> str:
    """Return a search's forecast, where it has one, and real cost as they were logged."""
    expected, found = costs.get("forecast", {}), costs["spent"]
    units = {
        "seconds": "seconds by the clock",
        "machine_seconds": "seconds of all workers",
        "disk": "bytes of artifacts",
        "kwh": "kWh",
        "usd": "USD",
    }
    rows = []
    for name, unit in units.items():
        row = {"": unit, "found": found[name]}
        if expected:
            error = f"{found[name] / expected[name] - 1:+.0%}" if expected[name] else ""
            row = {"": unit, "forecast": expected[name], "found": found[name], "error": error}
        rows.append(row)
    how = "measured by sensors" if found["is_measured"] else "estimated from the stated power"
    said = f"Cost of all starts of the search, without the pauses between. Energy is {how}."
    return note(said) + render(Table.of(rows), "html")


def _findings(findings: Sequence[Mapping[str, Any]]) -> str:
    if not findings:
        return note("No issues found.")
    records = []
    for finding in findings:
        groups = [", ".join(group[:SHOWN_ROWS]) for group in finding["rows"][:SHOWN_ROWS]]
        more = ["…"] if finding["count"] > SHOWN_ROWS else []
        records.append(
            {
                "level": finding["level"],
                "what": finding["kind"],
                "found": finding["message"],
                "rows": "; ".join([*groups, *more]),
            }
        )
    return render(Table.of(records), "html")
