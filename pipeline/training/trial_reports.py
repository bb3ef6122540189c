"""A run's reports to its search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.common.timing import booked
from pipeline.tasks.objective import objectives, read_objective
from pipeline.training.hooks import TrainingHook

if TYPE_CHECKING:
    from pipeline.common.contract import PruningDecision
    from pipeline.config.experiment import Experiment
    from pipeline.training.best import Evaluation, Evaluations
    from pipeline.training.outcome import Trial
    from pipeline.training.snapshot import Snapshot


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
        """End the run once its time is up."""
        self._trial.check_time()

    def on_evaluation(self, evaluation: Evaluation, so_far: Evaluations) -> bool:
        """Report the score that the run would have if it ended now."""
        with booked("search"):
            self.decision = self._trial.report(so_far.score(self._reported), evaluation.epoch)
        return self.decision == "continue"
