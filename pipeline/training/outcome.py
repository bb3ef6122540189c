"""What a run may ask of the search it is part of, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.common.contract import PruningDecision, State
from pipeline.common.timing import Account

if TYPE_CHECKING:
    from pipeline.training.snapshot import Snapshot

RUN_LOGGER = "tunewright.run"  # whose lines the terminal shows of a single run
EPOCH = 100  # steps that a trial reports for one epoch: rungs may be hundredths of it


@dataclass(frozen=True)
class Trial:
    """What a run that is part of a search may ask of it."""

    is_best: Callable[[float], bool]  # whether a score beats every finished trial's
    report: Callable[
        [float, float], PruningDecision
    ]  # score so far, epochs behind it -> whether to go on
    check_time: Callable[[], None]  # raises where the trial has had its time
    reported: str | None = None  # the metric to report, where it is not the first objective
    snapshot: Snapshot | None = None  # what it goes on from, where it was paused
    # Told that it goes on from a state on disk: of a try that was killed, after so many epochs.
    resumed: Callable[[float], None] = lambda _: None


# What a run on its own asks: nothing ends it, and it keeps its model.
ALONE = Trial(is_best=lambda _: True, report=lambda *_: "continue", check_time=lambda: None)


@dataclass(frozen=True)
class Result:
    """What a run found."""

    state: State
    run_id: str  # its MLflow run
    scores: tuple[float, ...]  # one an objective
    excesses: dict[str, float]  # by how much each constraint is broken; 0 or less: kept
    metrics: dict[str, float]  # by full name: val/best/f1_macro, test/accuracy …
    snapshot: Snapshot | None = None  # of a paused run
    account: Account = field(default_factory=Account)  # of its time, earlier parts included

    @property
    def seconds(self) -> float:
        """Wall time in training and evaluation."""
        return self.metrics["cost/train_seconds"] + self.metrics["cost/evaluate_seconds"]

    @property
    def score(self) -> float:
        """The first objective's score."""
        return self.scores[0]
