"""The winner retrained on fresh seeds, as a section of the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.common.html import note
from pipeline.common.tables import Table, render


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
            "95 % of rows": "" if one["interval"] is None else _range(*one["interval"]),
        }
        for one in report["against"]
    ]
    return note(said) + render(Table.of(rows), "html")


def _range(low: float, high: float) -> str:
    return f"{low:+.4f} to {high:+.4f}"
