"""What accompanies a training: a hook a concern, each of which overrides what it cares about."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.tasks.base import Examples, Outputs
    from pipeline.training.best import Evaluation, Evaluations
    from pipeline.training.snapshot import Snapshot

Infer = Callable[["Examples"], "Outputs"]


class TrainingHook:
    """Hears how a training goes, and has a say in it."""

    def on_start(self, snapshot: Snapshot | None) -> None:
        """Hear that the training begins, or continues from a snapshot."""

    def on_step(self) -> None:
        """Hear of the end of a step; raises where the run is to fail here."""

    def on_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Get metrics as they come, by their full names."""

    def more_metrics(
        self,
        examples: Examples,  # noqa: ARG002
        outputs: Outputs,  # noqa: ARG002
        infer: Infer,  # noqa: ARG002
    ) -> dict[str, float]:
        """Return metrics of a split besides the task's own.

        Args:
            examples: of the split.
            outputs: the model's, on them.
            infer: asks the model for further ones.
        """
        return {}

    def on_evaluation(self, evaluation: Evaluation, so_far: Evaluations) -> bool:  # noqa: ARG002
        """Hear of an evaluation that is not the last; return whether to go on training."""
        return True

    def flush(self) -> Callable[[], None]:
        """Begin to store what was heard; return what waits for that."""
        return lambda: None
