"""The verdict on a rerun: identical, equivalent within a tolerance, or where it diverged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pipeline.common.errors import TrackingError, listing
from pipeline.common.text import cut, printable
from pipeline.evaluation.names import is_cost
from pipeline.tracking.drift import Drift
from pipeline.tracking.logged import LoggedRun
from pipeline.tracking.metrics import History, comparable

TOLERANCE = 1e-3  # of float32 training on other hardware; scores move by whole rows
Kind = Literal["identical", "equivalent", "different"]
_LOSS = "train/loss"  # where a difference shows first


@dataclass(frozen=True)
class RerunVerdict:
    """How a rerun's result compares with the record."""

    kind: Kind
    detail: str

    @classmethod
    def read(cls, text: str) -> RerunVerdict:
        """Return the verdict that was noted as a text.

        Raises:
            TrackingError: where it is none.
        """
        given, _, detail = text.partition(": ")
        for kind in get_args(Kind):
            if kind == given:
                return cls(kind, detail)
        raise TrackingError(f"{cut(text)}: expected a verdict, {listing(get_args(Kind))}.")

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


@dataclass(frozen=True)
class _Point:
    """A metric's value at a step, in the record and in the rerun."""

    metric: str
    step: int
    then: float | None  # None: not logged
    now: float | None

    @property
    def is_same(self) -> bool:
        """Whether it is the same to the last bit."""
        if self.then is None or self.now is None:
            return False
        return self.then == self.now or (math.isnan(self.then) and math.isnan(self.now))

    @property
    def is_in_one(self) -> bool:
        """Whether it was logged in one of the two only."""
        return self.then is None or self.now is None

    @property
    def size(self) -> float | None:
        """The difference, relative to the values where they are above 1; None: it has no size."""
        if self.then is None or self.now is None:
            return None
        scale = max(1.0, abs(self.then), abs(self.now))
        size = abs(self.then / scale - self.now / scale)
        return size if math.isfinite(size) else None

    @property
    def place(self) -> tuple[bool, int, str]:
        """Sort key of the first divergence: losses diverge before what is computed from them."""
        return self.metric != _LOSS, self.step, self.metric

    def __str__(self) -> str:
        values = ("not logged" if v is None else repr(v) for v in (self.then, self.now))
        return f"{printable(self.metric)} at step {self.step}: {' -> '.join(values)}"


def judge(
    then: LoggedRun, now: LoggedRun, drift: Sequence[Drift], tolerance: float
) -> RerunVerdict:
    """Compare a rerun with its record.

    *Identical* is the same digest of the predictions and the same value of every metric at every
    step. *Equivalent* allows each value a difference of ``tolerance``, relative to the values where
    they are above 1, and other digests or none. Seconds are left out. What drifted is named first
    where they differ.
    """
    points = list(_points(then.histories, now.histories))
    parted = sorted((p for p in points if not p.is_same), key=lambda p: p.place)
    outputs = _outputs(then.predictions, now.predictions)
    if not parted:
        if outputs:
            said = f"all {len(points)} points of metrics are the same to the last bit; {outputs}"
            return RerunVerdict("equivalent", said)
        said = f"predictions and all {len(points)} points of metrics are the same to the last bit"
        return RerunVerdict("identical", said)
    sizes = [p.size for p in parted if p.size is not None]
    ending = f"first {parted[0]}" + (f"; {outputs}" if outputs else "")
    if len(sizes) == len(parted) and max(sizes) <= tolerance:
        said = f"all {len(points)} points of metrics within {tolerance:g}"
        return RerunVerdict("equivalent", f"{said}, by up to {max(sizes):.3g}; {ending}")
    causes = [f"{d.what} {d.detail}" for d in drift if d.state == "different"]
    differ = f"{len(parted)} of {len(points)} points of metrics differ"
    if sizes:
        differ += f", by up to {max(sizes):.3g} (tolerance {tolerance:g})"
    in_one = sum(p.is_in_one for p in parted)
    without_size = len(parted) - len(sizes) - in_one
    if in_one:
        differ += f", {in_one} of them in one of the two only"
    if without_size:
        differ += f", {without_size} infinite or not a number"
    return RerunVerdict("different", "; ".join([*causes, differ, ending]))


def _outputs(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Return why the predictions may differ; empty if they are the same."""
    if not then or not now:
        return f"the {'rerun' if then else 'record'} has no digest of the predictions"
    return "" if then == now else "the predictions' digests differ"


def _points(then: Mapping[str, History], now: Mapping[str, History]) -> Iterator[_Point]:
    """Yield the points that either has, but for seconds."""
    for metric in comparable(then, now):
        if is_cost(metric):
            continue
        before, after = then.get(metric, {}), now.get(metric, {})
        for step in {**before, **after}:
            yield _Point(metric, step, before.get(step), after.get(step))
