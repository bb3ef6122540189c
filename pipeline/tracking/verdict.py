"""The verdict on a rerun: the same to the last bit, within a tolerance, or where it parted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.tracking.drift import Drift
from pipeline.tracking.logged import LoggedRun
from pipeline.untrusted import plain

TOLERANCE = 1e-3  # of float32 training on other hardware; scores move by whole rows
_LOSS = "train/loss"  # where a difference shows first
_COSTS = "cost/"  # seconds, which no rerun repeats


@dataclass(frozen=True)
class Verdict:
    """How a rerun's result compares with the record."""

    kind: Literal["identical", "equivalent", "different"]
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


@dataclass(frozen=True, order=True)
class _Parting:
    """A point at which two histories are not the same; the earliest sorts first."""

    step: int
    is_no_loss: bool
    metric: str
    then: float | None = None  # None: not logged
    now: float | None = None

    @property
    def size(self) -> float:
        """The difference, relative to the values where they are above 1."""
        if self.then is None or self.now is None:
            return math.inf
        size = abs(self.then - self.now) / max(1.0, abs(self.then), abs(self.now))
        return size if math.isfinite(size) else math.inf

    def __str__(self) -> str:
        values = ("not logged" if v is None else repr(v) for v in (self.then, self.now))
        return f"{plain(self.metric)} at step {self.step}: {' -> '.join(values)}"


def judge(then: LoggedRun, now: LoggedRun, drift: Sequence[Drift], tolerance: float) -> Verdict:
    """Compare a rerun with its record.

    *Identical* is the same digest of the predictions and the same value of every metric at every
    step. *Equivalent* allows each value a difference of ``tolerance``, relative to the values where
    they are above 1. Seconds are left out. What drifted is named first where they differ.
    """
    partings = sorted(_partings(then.histories, now.histories))
    points = sum(len(h) for metric, h in then.histories.items() if _counts(metric))
    outputs = _outputs(then.predictions, now.predictions)
    if not partings and not outputs:
        said = f"predictions and all {points} points of metrics are the same to the last bit"
        return Verdict("identical", said)
    largest = max((p.size for p in partings), default=0.0)
    first = f"first {partings[0]}" if partings else "no metric differs"
    if largest <= tolerance:
        said = f"all {points} points of metrics within {tolerance:g}; {first}"
        return Verdict("equivalent", f"{said}; largest difference {largest:.3g}{outputs}")
    causes = "; ".join(f"{d.what} {d.detail}" for d in drift if d.state == "different")
    differ = f"{len(partings)} of {points} points of metrics differ, by up to {largest:.3g}"
    said = f"{differ} (tolerance {tolerance:g}); {first}{outputs}"
    return Verdict("different", f"{causes}; {said}" if causes else said)


def _outputs(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Say whether the predictions differ; nothing where they are the same."""
    if not then:
        return "; the record has no digest of the predictions"
    return "" if then == now else "; the predictions' digests differ"


def _partings(
    then: Mapping[str, Mapping[int, float]], now: Mapping[str, Mapping[int, float]]
) -> Iterator[_Parting]:
    for metric in {**then, **now}:
        if not _counts(metric):
            continue
        before, after = then.get(metric, {}), now.get(metric, {})
        for step in {**before, **after}:
            one, other = before.get(step), after.get(step)
            if not _same(one, other):
                yield _Parting(step, metric != _LOSS, metric, one, other)


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return one == other or (math.isnan(one) and math.isnan(other))


def _counts(metric: str) -> bool:
    return not metric.startswith(_COSTS)
