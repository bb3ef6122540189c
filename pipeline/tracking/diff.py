"""The differences between two runs by their records: provenance, config and results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.common.tables import Cell, Table, finite, render
from pipeline.common.text import printable
from pipeline.config.flat import flatten, settings
from pipeline.evaluation.names import is_cost
from pipeline.tracking.drift import Drift, drifts
from pipeline.tracking.logged import LoggedRun
from pipeline.tracking.metrics import comparable, final_values

MISSING = "(not there)"

# The keys that are different, each with its value in the first and the second, where it has one.
Changes = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Difference:
    """Two runs, compared."""

    a: LoggedRun
    b: LoggedRun
    config: Changes
    drifts: list[Drift]  # data, model, code, packages, machine and predictions
    packages: Changes
    metrics: Changes  # the final values
    counts: Mapping[str, int]  # how many keys, packages and metrics were compared

    @property
    def _runs(self) -> tuple[tuple[str, LoggedRun], ...]:
        return ("a", self.a), ("b", self.b)

    @property
    def is_same(self) -> bool:
        """Whether nothing is known to differ or unknown, seconds aside."""
        results = [key for key in self.metrics if not is_cost(key)]
        return not (self.config or results or any(d.state != "same" for d in self.drifts))

    def as_text(self) -> str:
        """Return it for people: a line for what is the same, a table for what is not."""
        runs = (f"{side}  {run.run_id}  {run.name}, {run.state}" for side, run in self._runs)
        parts = [
            "".join(f"{printable(run)}\n" for run in runs),
            self._section("config", self.config),
            "".join(f"{drift}\n" for drift in self.drifts),
            *([self._section("packages", self.packages)] if self.packages else []),
            self._section("metrics", self.metrics),
        ]
        return "\n".join(parts)

    def as_json(self) -> str:
        """Return it for programs."""
        content = {
            "same": self.is_same,
            **{
                side: {"run_id": run.run_id, "name": run.name, "state": run.state}
                for side, run in self._runs
            },
            "config": self.config,
            **{d.what: {"state": d.state, "detail": d.detail} for d in self.drifts},
            "metrics": {
                key: {**values, "difference": _difference(values)}
                for key, values in self.metrics.items()
            },
        }
        packages: Any = content["packages"]
        packages["changes"] = self.packages
        return json.dumps(finite(content), indent=1, allow_nan=False) + "\n"

    def _section(self, what: str, changes: Changes) -> str:
        if not changes:
            return f"{Drift(what, 'same', f'all {self.counts[what]}')}\n"
        columns, with_difference = [what, "a", "b"], what == "metrics"
        rows: list[list[Cell]] = []
        for key, values in changes.items():
            row: list[Cell] = [key, *(_shown(values, side) for side in "ab")]
            rows.append([*row, _difference(values)] if with_difference else row)
        table = render(Table([*columns, *["difference"] * with_difference], rows), "table")
        same = self.counts[what] - len(changes)
        return table + (f"{same} more are the same\n" if same else "")


def diff(a: LoggedRun, b: LoggedRun) -> Difference:
    """Compare two runs.

    Where the record of a run is kept (``tracking.*``) is left out.

    Raises:
        ConfigError: where the config of one is not as a run logs it.
    """
    compared: Mapping[str, list[Mapping[str, Any]]] = {
        "config": [settings(flatten(run.tree())) for run in (a, b)],
        "packages": [_packages(run) for run in (a, b)],
        "metrics": _finals(a, b),
    }
    found = drifts(*({**run.provenance, **run.inputs} for run in (a, b)))
    return Difference(
        a,
        b,
        drifts=[*found, _predictions(a, b)],
        counts={what: len({**one, **other}) for what, (one, other) in compared.items()},
        **{what: _changes(one, other) for what, (one, other) in compared.items()},
    )


def _packages(run: LoggedRun) -> Mapping[str, Any]:
    packages = run.provenance.get("packages")
    return packages if isinstance(packages, Mapping) else {}


def _finals(a: LoggedRun, b: LoggedRun) -> list[Mapping[str, float]]:
    """Return the final value of each metric of both; what a run cost comes last."""
    found = [final_values(run.histories) for run in (a, b)]
    keys = sorted(comparable(*found), key=lambda key: (is_cost(key), key))
    return [{key: values[key] for key in keys if key in values} for values in found]


def _predictions(a: LoggedRun, b: LoggedRun) -> Drift:
    if not a.predictions or not b.predictions:
        return Drift.not_recorded("predictions")
    return Drift("predictions", "same" if a.predictions == b.predictions else "different", "")


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> Changes:
    def values(key: str) -> Iterator[tuple[str, Any]]:
        for side, known in (("a", a), ("b", b)):
            if key in known:
                yield side, known[key]

    return {
        key: dict(values(key))
        for key in {**a, **b}
        if key not in a or key not in b or not _equal(a[key], b[key])
    }


def _equal(one: Any, other: Any) -> bool:
    return bool(one == other or (one != one and other != other))  # not a number, in both


def _difference(values: Mapping[str, float]) -> float | None:
    return values["b"] - values["a"] if len(values) == 2 else None


def _shown(values: Mapping[str, Any], side: str) -> Cell:
    value = values.get(side, MISSING)
    if isinstance(value, str | float):
        return value
    return json.dumps(value, default=str, ensure_ascii=False)
