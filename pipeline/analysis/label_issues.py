"""Label issues: rows whose label is likely wrong, by the models of a cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.analysis.winner import TABLE
from pipeline.tracking import Store
from pipeline.tracking.runs import read_json

if TYPE_CHECKING:
    from pipeline.tracking.runs import Run

COLUMNS = ("id", "text", "label", "suggested", "p_label", "p_suggested")


@dataclass(frozen=True)
class LabelReport:
    """The rows whose label is likely wrong, the most likely first."""

    estimate: int  # of the rows whose label is wrong
    judged: int
    table: Sequence[Sequence[Any]]  # `COLUMNS`

    def lines(self) -> list[str]:
        """Return it as text."""
        said = (
            f"label issues: about {self.estimate} of {self.judged} labels look wrong to models not "
            "trained on the row"
        )
        if not self.table:
            return [said]
        first = dict(zip(COLUMNS, self.table[0], strict=True))
        return [
            f"{said}; the likeliest is {first['id']}, labelled {first['label']!r}, predicted "
            f"{first['suggested']!r} with probability {first['p_suggested']:.2f}"
        ]

    def as_tree(self) -> dict[str, Any]:
        """Return it as plain values: a table that the MLflow UI shows, and what was estimated."""
        return {
            "columns": list(COLUMNS),
            "data": [list(row) for row in self.table],
            "estimate": self.estimate,
            "judged": self.judged,
        }


def find_label_issues(store: Store, runs: Sequence[Run]) -> LabelReport | None:
    """Find label issues by complete runs, each with predictions for its own part of the rows.

    None where there is one label.
    """
    import numpy as np

    from pipeline.evaluation.label_errors import confident_learning

    rows: list[dict[str, Any]] = []
    for run in runs:
        table = read_json(store, run, TABLE) or {}
        if "probabilities" not in table.get("columns", []):
            return None
        rows += [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    names = sorted({str(row["label"]) for row in rows})
    if len(names) < 2:
        return None
    shares = np.array([[row["probabilities"].get(name, 0.0) for name in names] for row in rows])
    found = confident_learning(shares, [str(row["label"]) for row in rows], names)
    ranked = [
        (
            rows[one.position]["id"],
            rows[one.position]["text"],
            one.given,
            one.suggested,
            round(one.given_probability, 4),
            round(one.suggested_probability, 4),
        )
        for one in found.ranked
    ]
    return LabelReport(found.estimate, len(rows), ranked)
