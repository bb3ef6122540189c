"""What a check of the data found, as a part of the page and as a page of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.common.html import note, page
from pipeline.common.tables import Table, render

if TYPE_CHECKING:
    from pipeline.analysis.data_check import Report

SHOWN_ROWS = 5  # groups of a finding whose ids are shown


def check_page(report: Report, title: str) -> str:
    """Return a report as a page.

    Args:
        report: of the data.
        title: what the data are called.
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
    """Return what a search was expected to cost beside what it did, as it was logged."""
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
    return note(f"Of the search's last start. Energy is {how}.") + render(Table.of(rows), "html")


def _findings(findings: Sequence[Mapping[str, Any]]) -> str:
    if not findings:
        return note("Nothing was found that is wrong with the rows.")
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
