"""All scores on a split as one table: a row for each label, average and further metric."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import chain
from typing import Any

from pipeline.evaluation.names import metric_name

FILE = "{split}_scores.json"  # artifact of a run
_KIND = re.compile(r"(precision|recall|f1)(?:/(?P<label>.+)|_(?P<average>macro|weighted|micro))")


def score_table(
    scores: Mapping[str, float],
    baseline: Mapping[str, float],
    baseline_name: str,
    counts: Mapping[str, Mapping[str, int]],
) -> dict[str, list[Any]]:
    """Return the table by columns.

    Args:
        scores: by metric, without the split.
        baseline: its scores, empty where they are of another split; their columns begin with its
            name.
        baseline_name: that name.
        counts: a column each of how many rows a label has, and of what they were predicted as.
    """
    labels = {metric_name(label): label for label in counts}  # by how metrics name them
    rows: dict[tuple[bool, str], dict[str, float]] = {}  # by whether it is a label, and its name
    for before, values in (("", scores), (f"{baseline_name} ", baseline)):
        for metric, value in values.items():
            row, column = _place(metric, labels)
            rows.setdefault(row, {})[before + column] = value
    for label, of in counts.items():
        rows.setdefault((True, label), {}).update(of)
    columns = dict.fromkeys(chain.from_iterable(rows.values()))
    return {
        "of": [name for _, name in rows],
        **{column: [row.get(column) for row in rows.values()] for column in columns},
    }


def score_in(table: Mapping[str, Any], metric: str) -> float:
    """Return a metric, without the split, from a table as it was logged; NaN where it is not there.

    It is an object with ``columns`` and ``data``, the rows.
    """
    labels = {metric_name(row[0]): row[0] for row in table["data"]}
    (_, name), column = _place(metric, labels)
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    cells = (row.get(column) for row in rows if row["of"] == name)
    return next((float(cell) for cell in cells if cell is not None), math.nan)


def _place(metric: str, labels: Mapping[str, str]) -> tuple[tuple[bool, str], str]:
    """Return a metric's row, by whether it is a label's and its name, and its column."""
    kind = _KIND.fullmatch(metric)
    if kind is None:
        return (False, metric), "score"
    label, average = kind["label"], kind["average"]
    row = (True, labels.get(label, label)) if label else (False, f"{average} average")
    return row, kind[1]
