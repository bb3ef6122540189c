"""Where the time of a process goes: each of its seconds is booked under one phase."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pipeline.common.session import session

Phase = Literal[
    "boot",  # imports, and the start of the process
    "compose",  # configs
    "data",  # rows, splits, token ids
    "model",  # its weights: read, saved, checked
    "batches",  # made of examples; and Trainer's own loop
    "forward_backward",
    "optimizer",  # and clipping
    "evaluation",
    "service",  # waiting for a provider's job
    "logging",  # what waits for MLflow or the disk: the record is written during the training
    "search",  # asking, telling, and what else the study is told
    "check",  # of a search: settings, data and models, before its first trial
    "forecast",  # of what a search costs: steps that are timed before its first trial
    "report",  # of a search: what it found beyond its best trial
    "idle",  # waiting for other workers
]
PHASES: tuple[Phase, ...] = get_args(Phase)
TRAINING: tuple[Phase, ...] = ("batches", "forward_backward", "optimizer")


SHOWN_BOUND = 0.05  # seconds of a lower bound from which a search says how near it came


class Ledger:
    """Books each second under the phase that is open.

    On a GPU the host runs ahead: time is booked where the host waits, which is rather evaluation
    or logging than the step that was computed.
    """

    def __init__(self) -> None:
        self.restart(time.time())

    def restart(self, began: float) -> None:
        """Forget what was booked, and book anew under ``boot``.

        Args:
            began: as of `time.time`; where it is the start of the process, its imports count.
        """
        self.began = began
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._phase: Phase = "boot"
        # Two clocks: only the system's knows when the process was created.
        self._since = time.perf_counter() - max(0.0, time.time() - began)

    def open(self, phase: Phase) -> Phase:
        """Book further time under a phase; return the one that was open."""
        now = time.perf_counter()
        self._seconds[self._phase] += now - self._since
        previous, self._phase, self._since = self._phase, phase, now
        return previous

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each phase since they were taken last."""
        self.open(self._phase)
        return {str(phase): seconds for phase, seconds in self._seconds.items()}

    def take(self) -> dict[str, float]:
        """Return the seconds of each phase since they were taken last, and begin anew."""
        taken = self.seconds()
        self._seconds = dict.fromkeys(PHASES, 0.0)
        return taken


def ledger() -> Ledger:
    """Return the ledger of this process."""
    return session().kept(Ledger, Ledger)


@contextmanager
def booked(phase: Phase) -> Iterator[None]:
    """Book the time within under a phase, what is booked inside left out; also a decorator."""
    previous = ledger().open(phase)
    try:
        yield
    finally:
        ledger().open(previous)


@dataclass(frozen=True)
class Account:
    """Where a run's time went, and the least that its matrix products need.

    ``lower_bound`` is in seconds: the operations of all tokens, without padding, over the rate that
    this machine was measured to have in the run's precision, with its threads; NaN where that is
    not known. What a cache spares frozen layers is counted.
    """

    seconds: Mapping[str, float] = field(default_factory=dict)  # by phase
    lower_bound: float = math.nan

    @property
    def total(self) -> float:
        """All seconds."""
        return sum(self.seconds.values())

    def as_tree(self) -> dict[str, Any]:
        """Return the account as plain values, without phases that took no time."""
        phases = {phase: spent for phase, spent in self.seconds.items() if spent}
        tree: dict[str, Any] = {"seconds": self.total, "phases": phases}
        if self.lower_bound > 0:  # neither unknown nor that of a failed run
            tree["lower_bound"] = self.lower_bound
            tree["over_lower_bound"] = self.over_lower_bound
        return tree

    @property
    def over_lower_bound(self) -> float:
        """How many times the lower bound all seconds are."""
        return self.total / self.lower_bound

    def __add__(self, other: Account) -> Account:
        bound = self.lower_bound + other.lower_bound
        return Account(added(self.seconds, other.seconds), bound)


def added(*accounts: Mapping[str, float]) -> dict[str, float]:
    """Return the sum of several accounts."""
    total: Counter[str] = Counter()
    for account in accounts:
        total.update(account)
    return dict(total)


@dataclass(frozen=True)
class Start:
    """What one start of a search took."""

    seconds: float  # from the start of the command
    workers: int  # processes that ran trials at the same time
    own: Mapping[str, float] = field(default_factory=dict)  # by phase, what all workers wait for
    kwh: float | None = None  # where it was measured


def account_of_search(trials: Sequence[Account], starts: Sequence[Start]) -> Account:
    """Return where the time of all workers of a search went, over all its starts.

    Its total is the sum of each start's seconds times its workers.
    """
    before = [
        {phase: start.workers * seconds for phase, seconds in start.own.items() if phase != "idle"}
        for start in starts
    ]
    seconds = added(*before, *(trial.seconds for trial in trials))
    wall = sum(start.seconds * start.workers for start in starts)
    # What nobody accounts for; trials may account for more where others ran some as well.
    seconds["idle"] = max(0.0, wall - sum(seconds.values()) + seconds.get("idle", 0.0))
    return Account(seconds, sum(t.lower_bound for t in trials if t.lower_bound > 0))


def summary(account: Account, starts: Sequence[Start]) -> list[str]:
    """Say where the time of a search went, by `account_of_search`: sums over its workers."""
    if not starts:
        return []
    shown = sorted(account.seconds.items(), key=lambda item: -item[1])
    phases = ", ".join(
        f"{phase.replace('_', '/')} {spent / account.total:.0%}"
        for phase, spent in shown
        if spent > 0.005 * account.total
    )
    wall, workers = sum(start.seconds for start in starts), {start.workers for start in starts}
    by, sums = "", ""
    if len(starts) > 1:
        by = f" in {len(starts)} starts (the latest: {starts[-1].seconds:.1f} s)"
    if workers != {1}:
        by += f" by {' or '.join(map(str, sorted(workers)))} workers, {account.total:.1f} s in all"
        sums = " in all"
    lines = [f"time: {wall:.1f} s{by}: {phases}"]
    if account.lower_bound >= SHOWN_BOUND:
        lines.append(
            f"compute lower bound: {account.lower_bound:.1f} s{sums} (matrix products without "
            "padding, at this machine's measured rate); the search took "
            f"{account.over_lower_bound:.1f} times that"
        )
    return lines
