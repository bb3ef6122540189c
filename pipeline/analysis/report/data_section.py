"""The data check and the costs, as sections of the page; the data check also as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.common.html import note, page
from pipeline.common.tables import Table, render

if TYPE_CHECKING:
    from pipeline.analysis.data_check import DataReport

SHOWN_ROWS = 5  # groups of a finding whose ids are shown


def check_page(report: DataReport, title: str) -> str:
    """Return a data report as a page.

    Args:
        report: of the data.
        title: name of the data.
    """
    body = note(report.summary) + data_section(report.as_tree())
    return page("data", title, body)


def data_section(report: Mapping[str, Any]) -> str:
    """Return the findings and tables of a report as it was logged."""
    parts = [_findings(report.get("findings", []))]
    parts += [
        render(Table.of(report.get(name, [])), "html") for name in ("labels", "tokens", "baselines")
    ]
    return "".join(parts)


def cost_section(costs: Mapping[str, Any]) -> str:
    """Return a search's forecast and real cost as they were logged."""
    expected, found = costs["forecast"], costs["spent"]
    units = {
        "seconds": "seconds by the clock",
        "machine_seconds": "seconds of all workers",
        "disk": "bytes of artifacts",
        "kwh": "kWh",
        "usd": "USD",
    }
    rows = []
    for name, unit in units.items():
        error = found[name] / expected[name] - 1 if expected[name] else None
        told = "" if error is None else f"{error:+.0%}"
        rows.append({"": unit, "forecast": expected[name], "found": found[name], "error": told})
    how = "measured by sensors" if found["is_measured"] else "estimated from the stated power"
    return note(f"Cost of the search's last start. Energy is {how}.") + render(
        Table.of(rows), "html"
    )


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
