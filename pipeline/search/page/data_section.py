"""What a check of the data found, as a part of the page and as a page of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from pipeline.search.page.drawing import PAGE, STYLE, note
from pipeline.untrusted import printable

if TYPE_CHECKING:
    from pipeline.check import Report

SHOWN_ROWS = 5  # groups of a finding whose ids are shown


def check_page(report: Report, title: str) -> str:
    """Return a report as a page.

    Args:
        report: of the data.
        title: what the data are called.
    """
    head = f"<header><p>data</p><h1>{escape(title)}</h1></header>"
    body = f"{head}{note(report.summary)}{data_section(report.as_tree())}"
    return PAGE.format(title=escape(title), style=STYLE, body=body)


def data_section(report: Mapping[str, Any]) -> str:
    """Return the findings and tables of a report as it was logged."""
    parts = [_findings(report.get("findings", []))]
    parts += [html_table(report.get(name, [])) for name in ("labels", "tokens", "baselines")]
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
    return note(f"Of the search's last start. Energy is {how}.") + html_table(rows)


def html_table(records: Sequence[Mapping[str, Any]]) -> str:
    """Return records of the same keys as a table; nothing where there are none."""
    if not records:
        return ""
    titles = "".join(f"<th>{escape(str(name))}</th>" for name in records[0])
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(_cell(value))}</td>' for value in record.values())}</tr>"
        for record in records
    )
    table = f"<table><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div class="wide">{table}</div>'


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else printable(str(value))


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
    return html_table(records)
