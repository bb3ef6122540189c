"""How far `optimizer.learning_rate=auto` is from the best recorded learning rates.

    python benchmarks/curves/start.py

For each data set and batch size: the recorded rate with the best mean score over warm-ups and
seeds, the rule's, the factor between them, and what the recorded rate nearest to the rule's loses
of the score, in standard errors.
"""

from __future__ import annotations

import math
from collections import defaultdict
from functools import cache
from statistics import fmean
from typing import NamedTuple

from curves import HERE, RATES, Curves

from pipeline.common.tables import Cell, Table, render
from pipeline.config.compose import compose, hydra_app, without_hydra
from pipeline.config.experiment import validate
from pipeline.training.starting_rate import starting_rate


@cache
def rule(batch_size: int) -> float:
    """Return where the rule begins on MiniLM."""
    overrides = ["model=minilm", "optimizer=adamw-auto", f"training.batch_size={batch_size}"]
    with hydra_app("train") as hydra:
        return starting_rate(validate(without_hydra(compose(hydra, overrides)))).rate


class Row(NamedTuple):
    """What was recorded of a data set at a batch size, and what the rule says there."""

    data: str
    batch: int
    best: float  # learning rate
    rule: float
    lost: float  # by the rate nearest to the rule's, in standard errors of the score


def rows_of(curves: Curves) -> list[Row]:
    """Return a row for each batch size that was recorded at every rate."""
    found: dict[int, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (rate, batch, _), score in curves.qualities.items():
        found[batch][rate].append(score)
    error = fmean(c.error for c in curves.by_point[curves.best])
    rows: list[Row] = []
    for batch, scores in sorted(found.items()):
        assert set(scores) == set(RATES), f"{curves.name}: rates are missing at batch size {batch}"
        mean = {rate: fmean(some) for rate, some in scores.items()}
        best, own = max(mean, key=mean.__getitem__), rule(batch)
        nearest = min(mean, key=lambda rate: abs(math.log(rate / own)))
        rows.append(Row(curves.name, batch, best, own, (mean[best] - mean[nearest]) / error))
    return rows


def every_row() -> list[Row]:
    """Return the rows of all that is recorded."""
    names = sorted(path.stem for path in HERE.glob("*.jsonl"))
    return [row for name in names for row in rows_of(Curves(name))]


def mean_rate(rows: list[Row]) -> float:
    """Return the geometric mean of the best rates, by the root of the batch size those at 16."""
    return math.exp(fmean(math.log(row.best / math.sqrt(row.batch / 16)) for row in rows))


def table(rows: list[Row]) -> str:
    """Return the table of these rows."""
    columns = ["data", "batch", "best", "rule", "off by a factor of", "lost"]
    cells: list[list[Cell]] = []
    for name, batch, best, own, lost in rows:
        off = max(best / own, own / best)
        cells.append([name, batch, f"{best:g}", f"{own:g}", round(off, 1), round(lost, 1)])
    return render(Table(columns, cells, left=["data"]), "md")


if __name__ == "__main__":
    every = every_row()
    print(table(every))
    print(f"The best rates' geometric mean, at batch 16: {mean_rate(every):.1e}.")
