"""The data check's report: findings, each with its level and the rows that it is about."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pipeline.common.errors import amount
from pipeline.common.tables import Table

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")  # the worst first
_NONE = Table((), ())
KEPT = 1000  # groups of rows that a finding keeps; it counts them all


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, odd, or good to know."""

    level: Level
    kind: str  # row, file, label, duplicate, leak, conflict, text, length, language, baseline …
    message: str
    # Ids of the rows, those together that belong together: a text's copies, a leak's two sides.
    rows: tuple[tuple[str, ...], ...] = ()
    count: int = 0  # of all such groups

    @classmethod
    def about(cls, level: Level, kind: str, message: str, rows: Sequence[Sequence[str]]) -> Finding:
        """Make a finding about rows, of which it keeps the first `KEPT` groups."""
        return cls(level, kind, message, tuple(tuple(group) for group in rows[:KEPT]), len(rows))


# Where a refusal says its row is: `train.csv, row train.csv:17: …`, `train.csv, line 17: …`.
_PLACE = re.compile(r", (?:row (.+?:\d+)|((?:line|item) \d+))(?=: )")


# What differs in a refusal from row to row: what was found, and the name that is like it.
_VALUE = re.compile(
    r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|-?\d[\d.e+-]*|\bNone\b|\bTrue\b|\bFalse\b"""
    r"| Did you mean .*?\?"
)
_LIST = re.compile(r"[\[({][\W_]*[\])}]")  # whose values are _ by then
_MOST = 3  # messages of one kind that stay apart


def error_findings(errors: Iterable[str]) -> list[Finding]:
    """Return what rows were refused for: rows of a file with the same fault are one finding.

    So are those whose messages differ in their values alone, if there are more than a few.
    """
    kinds: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for error in errors:
        kinds[kind_of(error)][_PLACE.sub("", error, 1)].append(error)
    findings = []
    for alike in kinds.values():
        if len(alike) > _MOST:
            findings.append(_finding([e for some in alike.values() for e in some], ", the first"))
        else:
            findings += map(_finding, alike.values())
    return findings


def kind_of(error: str) -> str:
    """Return what is said of any row of the file, without its values."""
    place = _PLACE.search(error)
    if place is None:
        return error
    return error[: place.start()] + _LIST.sub("_", _VALUE.sub("_", error[place.end() :]))


def _finding(errors: Sequence[str], which: str = "") -> Finding:
    first = errors[0]
    if len(errors) == 1:
        return Finding("error", "row", first)
    places = [place[1] or place[2] if (place := _PLACE.search(e)) else "" for e in errors]
    message = _PLACE.sub(f", {len(errors)} rows{which}", first, 1)
    return Finding.about("error", "row", message, [[place] for place in places])


@dataclass(frozen=True)
class DataReport:
    """What was found; a run starts in spite of warnings, but not of errors."""

    findings: Sequence[Finding]
    tokens: Table = _NONE  # a line a split
    labels: Table = _NONE  # a line a label
    scores: Table = _NONE  # a line a baseline

    @classmethod
    def read(cls, tree: Mapping[str, Any]) -> DataReport:
        """Return the findings of a report that `as_tree` made; its tables are left out."""
        return cls([Finding(**finding) for finding in tree["findings"]])

    def of(self, level: Level) -> list[Finding]:
        """Return the findings of a level."""
        return [finding for finding in self.findings if finding.level == level]

    @property
    def summary(self) -> str:
        """How many there are of each level."""
        return ", ".join(amount(len(self.of(level)), level) for level in LEVELS)

    def as_tree(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {
            "tokens": self.tokens.records(),
            "labels": self.labels.records(),
            "baselines": self.scores.records(),
            "findings": [asdict(finding) for finding in self.findings],
        }
