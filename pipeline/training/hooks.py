"""What accompanies training: one hook per concern, which overrides the methods it needs.

Here is that of the search; the record's and fairness's are with their concerns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.common.timing import booked
from pipeline.tasks.objective import objectives, read_objective

if TYPE_CHECKING:
    from pipeline.common.contract import PruningDecision
    from pipeline.config.experiment import Experiment
    from pipeline.tasks.base import Examples, Outputs
    from pipeline.training.best import Evaluation, Evaluations
    from pipeline.training.outcome import Trial
    from pipeline.training.snapshot import Snapshot

Infer = Callable[["Examples"], "Outputs"]


class TrainingHook:
    """Is notified as training proceeds, and can end it."""

    def on_start(self, snapshot: Snapshot | None) -> None:
        """Called when training starts, or resumes from a snapshot."""

    def on_step(self) -> None:
        """Called after each step; raises to make the run fail here."""

    def on_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Receive metrics as they arrive, by full name."""

    def more_metrics(self, examples: Examples, outputs: Outputs, infer: Infer) -> dict[str, float]:
        """Return metrics of a split besides the task's own; ``infer`` gives further outputs."""
        del examples, outputs, infer
        return {}

    def on_evaluation(self, evaluation: Evaluation, so_far: Evaluations, *, is_last: bool) -> bool:
        """Called after each evaluation; return whether to continue, where it is not the last."""
        del evaluation, so_far, is_last
        return True

    def flush(self) -> Callable[[], None]:
        """Start to store what was received; return a function that waits for it."""
        return lambda: None


class TrialReports(TrainingHook):
    """Reports each evaluation to the search, which decides whether training continues."""

    def __init__(self, experiment: Experiment, trial: Trial) -> None:
        self._trial = trial
        first, *_ = objectives(experiment)
        named = trial.reported
        self._reported = read_objective(experiment, named) if named else first
        self.decision: PruningDecision = "continue"

    def on_start(self, snapshot: Snapshot | None) -> None:
        """Tell the search how far a killed attempt came; it knows of pauses."""
        last = snapshot.evaluations.last if snapshot else None
        if self._trial.snapshot is None and last is not None:
            self._trial.resumed(last.epoch)

    def on_step(self) -> None:
        """End the run once its time is up, or a user ends it."""
        self._trial.check()

    def on_evaluation(self, evaluation: Evaluation, so_far: Evaluations, *, is_last: bool) -> bool:
        """Report the score that the run would have if it ended now; not before any step."""
        if not evaluation.step:
            return True
        with booked("search"):
            decision = self._trial.report(so_far.score(self._reported), evaluation.epoch)
        if not is_last:  # else it is complete, whatever the search says
            self.decision = decision
        return self.decision == "continue"
