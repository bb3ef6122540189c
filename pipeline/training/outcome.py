"""What a run may ask of its search, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.contract import PruningDecision, State
from pipeline.common.timing import Account

if TYPE_CHECKING:
    from pipeline.training.hooks import TrainingHook
    from pipeline.training.snapshot import Snapshot

RUN_LOGGER = "tunewright.run"  # whose lines the terminal shows of a single run
EPOCH = 100  # steps that a trial reports for one epoch: rungs may be hundredths of it


@dataclass(frozen=True)
class Trial:
    """What a run may ask of the search that it belongs to."""

    is_kept: Callable[[Sequence[float]], bool]  # whether a model of such scores stays
    # Takes the score so far and the epochs done; returns whether to continue.
    report: Callable[[float, float], PruningDecision]
    check: Callable[[], None]  # raises once the trial's time is up, or a user ends it
    reported: str | None = None  # the metric to report, if not the first objective
    snapshot: Snapshot | None = None  # what it resumes from, if it was paused
    # Called when it resumes from the checkpoint of a killed attempt, with the epochs done.
    resumed: Callable[[float], None] = lambda _: None
    # Takes what the steps up to the first evaluation, and that, took: a `Timing` as plain values.
    timed: Callable[[Mapping[str, Any]], None] = lambda _: None
    # Takes the mark of a job at a provider's service, what it is forecast to cost in USD, or did,
    # and whether that is spent already; raises where not, and the budget has no room for it.
    charge: Callable[[str, float, bool], None] = lambda *_: None
    folder: Path | None = None  # where the trials of its search keep what they share
    listeners: Sequence[TrainingHook] = ()  # that are notified as its own hooks are


# For a run outside a search: nothing ends it, and it keeps its model.
ALONE = Trial(is_kept=lambda _: True, report=lambda *_: "continue", check=lambda: None)


@dataclass(frozen=True)
class Result:
    """What a run found."""

    state: State
    run_id: str  # its MLflow run
    scores: tuple[float, ...]  # one per objective
    excesses: dict[str, float]  # violation of each constraint; 0 or less: satisfied
    metrics: dict[str, float]  # by full name: val/f1_macro, test/accuracy …
    snapshot: Snapshot | None = None  # of a paused run
    account: Account = field(default_factory=Account)  # of its time, earlier parts included
    ran: float = 0.0  # seconds by the clock while its record was open, pauses left out

    @property
    def score(self) -> float:
        """The first objective's score."""
        return self.scores[0]
